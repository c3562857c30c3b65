"""Where a token stands, told to the model in one of four ways: a class each.

In: the columns of the new tokens. Out: what is added to the embedding, the turns of queries and keys, and the mask of
the scores, which may be a bias. Knows no ids. A new way is a class and its name in `WAYS`, and in `config.POSITIONS`.
Shapes: B rows, T new tokens, N tokens to look at (T, or all in the cache).
"""

import math
from typing import Any, Optional

import torch
from torch import Tensor, nn

from nanolm.config import one_of
from nanolm.model.config import ModelConfig
from nanolm.model.width import embedding_std

Angles = tuple[Tensor, Tensor]  # cos and sin, (T, 1, head_dims) or (B, T, 1, head_dims)


def places(tokens: int, columns: int, starts: Optional[Tensor], device: torch.device) -> slice | Tensor:
    """The positions of the last `tokens` of so many columns: a slice, or (B, T) where rows have padding on the left."""
    if starts is None:
        return slice(columns - tokens, columns)
    return (torch.arange(columns - tokens, columns, device=device) - starts[:, None]).clamp_min_(0)


def visible(tokens: int, columns: int, starts: Optional[Tensor], device: torch.device) -> Tensor:
    """Who may look where: bool (T, N), or (B, 1, T, N) where rows have padding on the left.

    A padding row sees itself, so that its softmax is finite; nobody else sees it.
    """
    column = torch.arange(columns, device=device)
    row = column[columns - tokens :, None]
    if starts is None:
        return column <= row
    return ((column <= row) & (column >= starts[:, None, None]) | (column == row)).unsqueeze(1)


class NoPositions(nn.Module):
    """The causal mask alone tells what came before (Kazemnejad et al. 2023, https://arxiv.org/abs/2305.19466)."""

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__()

    def add(self, x: Tensor, where: slice | Tensor) -> Tensor:
        """The embedding x (B, T, dims) with what tells the positions `where`."""
        return x

    def angles(self, x: Tensor, where: slice | Tensor) -> Optional[Angles]:
        """By which queries and keys are turned, in the dtype of x; None: not at all."""
        return None

    def mask(self, x: Tensor, columns: int, starts: Optional[Tensor]) -> Optional[Tensor]:
        """For the scores (B, heads, T, N): bool as of `visible`, or a bias that is added. None: the causal one."""
        tokens = x.shape[1]
        if starts is None and (tokens == 1 or tokens == columns):
            return None
        return visible(tokens, columns, starts, x.device)


class Sinusoidal(NoPositions):
    """Sines and cosines added to the embedding, as large as its entries (https://arxiv.org/abs/1706.03762)."""

    table: Tensor  # (context, dims): sines in the even columns, cosines in the odd ones

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__(config, context)
        angle = _angles(context, config.dims)
        table = torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, : config.dims]
        self.register_buffer("table", table * embedding_std(config.tied), persistent=False)

    def add(self, x: Tensor, where: slice | Tensor) -> Tensor:
        return x + self.table[where].to(x.dtype)


class Rotary(NoPositions):
    """Queries and keys turned by angles that grow with the position (https://arxiv.org/abs/2104.09864)."""

    cos: Tensor  # (context, 1, head_dims)
    sin: Tensor  # those of the first half negative

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__(config, context)
        angle = _angles(context, config.head_dims).unsqueeze(1)
        self.register_buffer("cos", angle.cos().repeat(1, 1, 2), persistent=False)
        self.register_buffer("sin", torch.cat((-angle.sin(), angle.sin()), -1), persistent=False)

    def angles(self, x: Tensor, where: slice | Tensor) -> Optional[Angles]:
        return self.cos[where].to(x.dtype), self.sin[where].to(x.dtype)


class Alibi(NoPositions):
    """Scores fall with the distance, at a slope of its own for each head (Press et al. 2022, https://arxiv.org/abs/2108.12409)."""

    slopes: Tensor  # (heads, 1, 1)

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__(config, context)
        self.register_buffer("slopes", alibi_slopes(config.heads)[:, None, None], persistent=False)

    def mask(self, x: Tensor, columns: int, starts: Optional[Tensor]) -> Optional[Tensor]:
        column = torch.arange(columns, device=x.device)
        distance = column[columns - x.shape[1] :, None] - column  # (T, N)
        bias = (-self.slopes * distance).to(x.dtype)  # (heads, T, N)
        return bias.masked_fill(~visible(x.shape[1], columns, starts, x.device), -torch.inf)


def alibi_slopes(heads: int) -> Tensor:
    """(heads,): 2^-8/n, 2^-16/n ... 2^-8 for a power of two n; further heads stand between the first of these."""
    power = 2 ** int(math.log2(heads))
    exponents = [8 * (i + 1) / power for i in range(power)]
    exponents += [4 * (2 * i + 1) / power for i in range(heads - power)]
    return 2.0 ** -torch.tensor(exponents)


def _angles(context: int, dims: int) -> Tensor:
    """(context, dims / 2): position times speed, from 1 radian a token down to 1 / 10,000."""
    speed = 1.0 / 10000.0 ** (torch.arange(0, dims, 2).float() / dims)
    return torch.outer(torch.arange(context).float(), speed)


class _Rotate(torch.autograd.Function):
    """The gradient of a turn is the turn back; autograd's own would round once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns x (B, T, heads, head_dims): entry i with entry i + head_dims / 2, by the angles of its position."""
    return _Rotate.apply(x, *angles) if x.requires_grad else _turn(x, *angles)


WAYS = {"rotary": Rotary, "sinusoidal": Sinusoidal, "alibi": Alibi, "none": NoPositions}


def make_positions(config: ModelConfig, context: int) -> NoPositions:
    """The way of `config.positions`, for so many tokens. Raises ConfigError."""
    one_of("model.positions", config.positions, list(WAYS))
    return WAYS[config.positions](config, context)
