"""Where a token stands: rotary turns of queries and keys, or sinusoids added to the embedding.

In: a context length. Out: tables, and the turn itself. Knows no padding: whoever calls picks the rows of the tables.
"""

from typing import Any

import torch
from torch import Tensor


def rotary_tables(context: int, head_dims: int) -> tuple[Tensor, Tensor]:
    """cos and sin (context, 1, head_dims) of the angles, sines of the first half negative (https://arxiv.org/abs/2104.09864)."""
    speed = 1.0 / 10000.0 ** (torch.arange(0, head_dims, 2).float() / head_dims)
    angle = torch.outer(torch.arange(context).float(), speed).unsqueeze(1)
    return angle.cos().repeat(1, 1, 2), torch.cat((-angle.sin(), angle.sin()), -1)


def sinusoid_table(context: int, dims: int) -> Tensor:
    """(context, dims): sines in the even columns, cosines in the odd ones (https://arxiv.org/abs/1706.03762)."""
    speed = 1.0 / 10000.0 ** (torch.arange(0, dims, 2).float() / dims)
    angle = torch.outer(torch.arange(context).float(), speed)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, :dims]


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


class _Rotate(torch.autograd.Function):
    """The gradient of a turn is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns x (B, T, heads, head_dims): entry i with entry i + head_dims / 2, by the angles of its position."""
    return _Rotate.apply(x, cos, sin) if x.requires_grad else _turn(x, cos, sin)
