"""Weights in 8 bits: a quarter of the size, and on a CPU a product several times as fast for a few rows.

In: a trained Transformer. Out: the same with int8 matrices, each with a scale per row; it writes and scores, it doesn't
learn. Every vector of activations is scaled by itself to whole numbers of 8 bits (7 without AVX512-VNNI, where sums
would overflow), so that it doesn't matter what else is in the batch; the sums of products are exact. On x86 a vector
alone goes a shorter way, which rounds it a little finer: from its least entry to its largest.
"""

import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Optional, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.hardware import cpu_has

WIDE = cpu_has("wide int8")
STEPS = 127 if WIDE else 63  # of an activation to either side of 0
SMALLEST = 1e-30  # a scale: vectors of zeros stay zeros
OPS = {
    "int8": "linear_with_input_q_dq_qweight_dq_output_fp32",
    "int8_row": "linear_dynamic",
    "fp16": "linear_dynamic_fp16",
}
_packing = threading.Lock()  # catch_warnings changes the whole process
FBGEMM = torch.backends.quantized.engine in ("x86", "fbgemm") and hasattr(torch.ops.quantized, OPS["int8"])  # AVX2
PACKED = "__torch__.torch.classes.quantized.LinearPackedParamsBase"
PRODUCTS = f"""
def int8(x: Tensor, scale: float, zero: int, weight: {PACKED}) -> Tensor:
    return torch.ops.quantized.{OPS["int8"]}(x, scale, zero, weight)
def int8_row(x: Tensor, weight: {PACKED}, narrow: bool) -> Tensor:
    return torch.ops.quantized.{OPS["int8_row"]}(x, weight, narrow)
def fp16(x: Tensor, weight: {PACKED}) -> Tensor:
    return torch.ops.quantized.{OPS["fp16"]}(x, weight)
"""


@cache
def fbgemm(name: str) -> Any:
    """One of OPS, called by torch's own interpreter: Python takes 10 us longer to look at packed weights."""
    if not hasattr(torch.jit, "CompilationUnit"):  # which torch means to drop one day
        return getattr(torch.ops.quantized, OPS[name]).default._op
    return getattr(torch.jit.CompilationUnit(PRODUCTS), name)


class Int8Linear(nn.Module):
    """x (..., dims) -> float32 x weight' + bias (..., rows); weight int8 (rows, dims), scale (rows,)."""

    def __init__(self, weight: Tensor, bias: Optional[Tensor] = None) -> None:
        super().__init__()
        if weight.is_meta:  # shapes are all that is asked for
            scale = weight.new_empty(len(weight), dtype=torch.float32)
            whole = torch.empty_like(weight, dtype=torch.int8)
        else:
            scale = (weight.float().abs().amax(1) / 127).clamp_min(SMALLEST)
            whole = (weight.float() / scale[:, None]).round().to(torch.int8)
        self.weight, self.scale = nn.Parameter(whole, requires_grad=False), nn.Parameter(scale, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self._packed: Any = None  # made once the weights are those that were loaded, at the latest at a product

    @classmethod
    def of(cls, module: nn.Linear | nn.Embedding) -> Self:
        """The module with its weights rounded."""
        return cls(module.weight.detach(), getattr(module, "bias", None))

    def product(self, x: Tensor) -> Tensor:
        """x weight' + bias, as in `layers.Embedding`: what makes an embedding the output layer too."""
        x = x.to(self.scale.dtype)
        if FBGEMM and self._packed is None:
            pack_all([self])
        if FBGEMM and bool(x.numel() == x.shape[-1]):
            out: Tensor = fbgemm("int8_row")(x, self._packed, not WIDE)
            return out if self.bias is None else out.add_(self.bias)
        largest = x.abs().amax(-1, keepdim=True).clamp_min_(SMALLEST)
        if FBGEMM:
            out = fbgemm("int8")(x / largest, 1 / STEPS, STEPS + 1, self._packed)  # in bytes STEPS + 1 stands for 0
        else:
            whole = (x / largest * STEPS).round().char().flatten(0, -2)
            table = self.weight.T  # of one column: torch 2.13 would multiply it wrongly on a CPU
            sums = torch._int_mm(whole, table) if whole.shape[1] > 1 else whole.int() * table.int()
            out = sums.view(*x.shape[:-1], -1) * (self.scale / STEPS)
        out = out.mul_(largest)
        return out if self.bias is None else out.add_(self.bias)

    forward = product

    def pack(self) -> None:
        """The weights as fbgemm wants them, whose product takes a twentieth of `torch._int_mm`'s time on AVX2."""
        zeros = torch.zeros(len(self.scale), dtype=torch.long)
        table = torch._make_per_channel_quantized_tensor(self.weight, self.scale.double(), zeros, 0)
        self._packed = torch.ops.quantized.linear_prepack(table, None)


class Int8Embedding(Int8Linear):
    """ids (...) -> float32 (..., dims); `product` makes it the output layer too."""

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight) * self.scale[ids, None]


def pack_all(modules: Iterable[Any]) -> None:
    """Calls `pack` of those that aren't packed yet, where there is fbgemm. It packs a matrix by one thread, in 4 to 20
    ns a weight, so several are packed at once."""
    ignoring = warnings.catch_warnings(action="ignore")  # that torch will drop such tensors one day
    with _packing, ignoring, ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(lambda module: module.pack(), [one for one in modules if FBGEMM and one._packed is None]))


def quantize(model: nn.Module) -> None:
    """Rounds every matrix of a Transformer in place; tables of n-grams, which multiply nothing, stay as they are."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            kind = Int8Embedding if isinstance(module, nn.Embedding) else Int8Linear
            model.set_submodule(name, kind.of(module))
