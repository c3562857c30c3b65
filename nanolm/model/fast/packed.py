"""Where the weights of a model that only writes lie in a CPU's memory: products with a few vectors are faster then.

In: a trained Transformer, whose weights are not to change any more. Out: the same, with the same weights. What it
computes beside the products with large matrices is in fp32, whatever its weights are.
"""

from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from typing import Any, Optional, Union
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.hardware import cpu_has
from nanolm.model.fast.int8 import FBGEMM, fbgemm, pack_all
from nanolm.model.positions import make_positions
from nanolm.model.transformer import Transformer

FEW = range(3, 129)  # rows of x (beams, prompts) for which oneDNN takes 50 to 100% of the time of MKL
LARGE = 2**18  # weights of a matrix; below, oneDNN's own start costs more than it gains
MANY = 8  # rows from which oneDNN's bf16 is worth its start, some 0.1 s of a process
EARLY = 64  # products of Half with few rows, before fbgemm packs its weights: that takes 15 ns a weight
HALVES = FBGEMM  # whether there are products for Half


def row_group(rows: int) -> int:
    """Equal for numbers of rows that int8 and bf16 weights are multiplied with by the same operations."""
    return bisect_left((1, MANY - 1), rows)


def _few(x: Tensor, packed: Tensor, bias: Optional[Tensor]) -> Tensor:
    scalars: list[Optional[Union[int, float, complex]]] = []
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", scalars, "")


@cache
def _scripted() -> Any:
    """The same for a recording, which takes the empty list for one of tensors."""
    return torch.jit.script(_few)


class Packed(nn.Module):
    """x (..., dims) -> x weight' + bias (..., rows); FEW vectors, each the last token of a text, by oneDNN, from a
    second copy of the weights: many such steps pay for it, a prompt, which is read once, doesn't."""

    _packed: Optional[Tensor]  # in oneDNN's own order

    def __init__(self, module: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        self.weight, self.bias = module.weight, getattr(module, "bias", None)
        self.register_buffer("_packed", None, persistent=False)  # made at the first product that wants it

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        """What `forward` of a linear map gives."""
        step = x.dim() < 3 or x.shape[-2] == 1
        if not step or x.numel() // x.shape[-1] not in FEW or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous())
        return _few(x, self._packed, self.bias)


class PackedEmbedding(Packed):
    """ids (...) -> (..., dims); `product` makes it the output layer too."""

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Half(nn.Module):
    """x (..., dims) -> float32 x weight' + bias (..., rows); weights in bf16, half of what fp32 has to read.

    Less than MANY rows are multiplied in fp32 by fbgemm, whose fp16 holds a bf16 of 2^-14 or more exactly, and smaller
    ones to 2^-25; more by oneDNN in bf16, where the CPU has instructions for it. Packing pays after some hundred
    tokens, so a short text is multiplied by a copy in fp32 of the same weights; only the last bits of sums differ.
    """

    _many: Optional[Tensor]  # in oneDNN's own order

    def __init__(self, module: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        bias = getattr(module, "bias", None)
        self.weight = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().bfloat16(), requires_grad=False)
        self._packed: Any = None  # for all `together`; both are made at the first product that wants them
        self.register_buffer("_many", None, persistent=False)
        self._early: Optional[Tensor] = self.weight.float()
        self._calls = 0
        self.together = WeakSet([self])  # those of a model, which are packed at once

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        """What `forward` of a linear map gives."""
        if bool(x.numel() < MANY * x.shape[-1]) or not cpu_has("bf16"):
            return self._of_few(x)
        if self._many is None:
            self._many = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
        return (_scripted() if torch.jit.is_tracing() else _few)(x.bfloat16(), self._many, self.bias).float()

    def _of_few(self, x: Tensor) -> Tensor:
        if self._packed is None:
            self._calls += 1
            bias, early = None if self.bias is None else self.bias.float(), self._early  # other threads may be here
            if early is not None and self._calls <= EARLY:
                return F.linear(x, early, bias)
            pack_all(self.together)
        out: Tensor = fbgemm("fp16")(x, self._packed)
        return out

    def pack(self) -> None:
        """The weights as fbgemm wants them."""
        bias = None if self.bias is None else self.bias.float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(self._early, bias)
        self._early = None


class HalfEmbedding(Half):
    """ids (...) -> float32 (..., dims); `product` makes it the output layer too."""

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()


def multiplied(model: Transformer) -> Iterator[nn.Module]:
    """Its modules without an embedding that is only looked up."""
    return (one for one in model.modules() if one is not model.embedding or model.output is None)


def lay_out(model: Transformer, half: bool = False) -> None:
    """Lays out every matrix that is on a CPU; half: large ones in bf16 where HALVES, the others stay as they are.

    fp32 ones with more rows than columns are turned: their product with one vector takes 60 to 80% of the time then.
    """
    half = half and HALVES
    if half:
        model.float().positions = make_positions(model.config, model.context)
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        weight, embedding = module.weight, isinstance(module, nn.Embedding)
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        large = weight.numel() >= LARGE and torch.backends.mkldnn.is_available()
        if large and half:
            model.set_submodule(name, (HalfEmbedding if embedding else Half)(module))
            continue
        if weight.shape[0] > weight.shape[1]:
            weight.data = weight.data.T.contiguous().T
        if large:
            model.set_submodule(name, (PackedEmbedding if embedding else Packed)(module))
    halves = WeakSet(module for module in multiplied(model) if isinstance(module, Half))
    for one in halves:
        one.together = halves
