"""The small pieces of a block: norms, MLPs, dropout, and linear maps stacked into one product.

In and out: (..., dims) in any float dtype. On a CPU dropout and, but for compiled steps, RMSNorm are by hand, as
torch's own cost more than 3% of a step (the figures stand beside them); on a GPU torch's are used.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.model.config import ModelConfig

EPS = 1e-6
_EPS = torch.tensor(EPS)  # made once: at every norm it would be 3 to 10% of a written token


class Embedding(nn.Embedding):
    """A vector per token; `product` (..., dims) -> (..., V) makes it the output layer too.

    `spelling.py` has one whose table is made anew at every step.
    """

    def reset_parameters(self) -> None:
        """As torch does, but not on the meta device: drawing there imports torch's compiler, 1.2 s of a start."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def table(self) -> Tensor:
        """(V, dims)."""
        return self.weight

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., dims)."""
        return F.embedding(ids, self.table())

    def product(self, x: Tensor) -> Tensor:
        """x table'."""
        return F.linear(x, self.table())


class Stacked(nn.Linear):
    """Several linear maps of the same input as one product; `parts` are their output widths, in order."""

    def __init__(self, dims: int, parts: Sequence[int], bias: bool) -> None:
        super().__init__(dims, sum(parts), bias=bias)
        self.parts = tuple(parts)


def _inverse_rms(x: Tensor) -> Tensor:
    wide = torch.float32 if x.itemsize < 4 else x.dtype
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    share = 1 / int(x.shape[-1])  # int: while steps are recorded, sizes are tensors
    return cast_like(torch.addcmul(_EPS, norm, norm, value=share).rsqrt_(), x)


def cast_like(x: Tensor, like: Tensor) -> Tensor:
    """x in the dtype of `like`; asked beforehand, since Tensor.to that changes nothing is 3% of a token of `tiny`."""
    return x if x.dtype == like.dtype else x.to(like.dtype)


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * weight with its gradient by hand: a training step with F.rms_norm takes 3 to 12% longer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        unit, inverse, weight = ctx.saved_tensors
        product = grad * unit
        along = (product @ weight).unsqueeze(-1) if weight.dim() == 1 else (product * weight).sum(-1, keepdim=True)
        d_x = (grad * weight).addcmul_(unit, along, value=-1 / weight.shape[-1]).mul_(inverse)
        return d_x, product.flatten(0, -weight.dim() - 1).sum(0)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., dims) by its root mean square, times the gain: (dims,), or (heads, dims) where x ends so."""
    weight = cast_like(weight, x)  # one dtype: a mixed call misses the fused kernel
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return _RMSNorm.apply(x, weight) if torch.is_grad_enabled() else (x * _inverse_rms(x)).mul_(weight)
    if torch.is_autocast_enabled(x.device.type):  # which on a GPU would answer in fp32
        with torch.autocast(x.device.type, enabled=False):
            return rms_norm(x, weight)
    if weight.dim() == 1:
        return F.rms_norm(x, weight.shape, weight, EPS)
    return F.rms_norm(x, weight.shape[-1:], None, EPS) * weight


def rms_norm_into(out: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """The same of x in fp32, to the bit, without gradients; inverse (..., 1): what x is multiplied by."""
    torch.linalg.vector_norm(x, dim=-1, keepdim=True, out=inverse)
    torch.addcmul(_EPS, inverse, inverse, value=1 / x.shape[-1], out=inverse).rsqrt_()
    return torch.mul(x, inverse, out=out).mul_(weight)


class RMSNorm(nn.Module):
    """Divides by the root mean square and multiplies by a gain (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dims))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight)


class LayerNorm(nn.LayerNorm):
    """PyTorch's, but the output keeps the input's dtype under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else cast_like(self.bias, x)
        return cast_like(F.layer_norm(x, self.weight.shape, cast_like(self.weight, x), bias, self.eps), x)


def make_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """The norm of `config.norm` over the residual stream."""
    return RMSNorm(config.dims) if config.norm == "rms" else LayerNorm(config.dims, bias=config.biases)


def _random_bits(x: Tensor) -> Tensor:
    """A uniform int16 for each entry of x, and up to three more; one 64-bit draw serves four entries.

    With F.dropout a step takes 2 to 12% longer, a compiled one 17%.
    """
    return torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)


# for a compiler, which else takes two draws for one; used without one it would be imported, 0.7 s of every start
_random_op = torch.library.custom_op(
    "nanolm::random_bits", _random_bits, mutates_args=(), tags=[torch.Tag.nondeterministic_seeded]
)


@_random_op.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty(-(-x.numel() // 4) * 4, dtype=torch.int16)


class Dropout(nn.Dropout):
    """Zeroes a share p of the entries in training and scales the rest by 1 / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        draw = _random_op if torch.compiler.is_compiling() else _random_bits
        keep = draw(x)[: x.numel()].view(x.shape) >= round(self.p * 2**16) - 2**15
        return x * keep.to(x.dtype).div_(1 - self.p)


class _SwiGLU(torch.autograd.Function):
    """With its gradient by hand, for which only x is kept, not silu(gate) too: a tenth of all that a block keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, value = x.chunk(2, -1)
        return F.silu(gate).mul_(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        gate, value = x.chunk(2, -1)
        d_x = torch.empty_like(x)
        d_gate, d_value = d_x.chunk(2, -1)
        torch.mul(F.silu(gate), grad, out=d_value)
        torch.ops.aten.silu_backward(grad * value, gate, grad_input=d_gate)
        return d_x


def swiglu(x: Tensor) -> Tensor:
    """silu(gate) * value of the two halves (https://arxiv.org/abs/2002.05202)."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _SwiGLU.apply(x)
    gate, value = x.chunk(2, -1)
    return F.silu(gate) * value


def relu2(x: Tensor) -> Tensor:
    """ReLU squared (https://arxiv.org/abs/2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Any] = {"swiglu": swiglu, "gelu": F.gelu, "relu": F.relu, "relu2": relu2, "single": F.relu}


class MLP(nn.Module):
    """(B, T, dims) -> (B, T, dims), each position by itself; `single` is one layer and its ReLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        hidden = config.dims if config.mlp == "single" else config.hidden_dims
        self.up = Stacked(config.dims, [hidden] * (2 if config.mlp == "swiglu" else 1), config.biases)
        self.down = None if config.mlp == "single" else nn.Linear(hidden, config.dims, config.biases)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.up(x))
        return hidden if self.down is None else self.down(hidden)
