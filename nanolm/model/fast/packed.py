"""Where the weights of a model that only writes lie in a CPU's memory: products with a few vectors are faster then.

In: a trained Transformer, whose weights are not to change any more. Out: the same, with the same weights.
"""

from functools import cache
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = range(3, 129)  # rows of x (beams, prompts) for which oneDNN takes 50 to 100% of the time of MKL
LARGE = 2**18  # weights of a matrix; below, oneDNN's own start costs more than it gains


def _few(x: Tensor, packed: Tensor, bias: Optional[Tensor]) -> Tensor:
    scalars: list[Optional[Union[int, float, complex]]] = []
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", scalars, "")


@cache
def _scripted() -> Any:
    """The same for a recording, which takes the empty list for one of tensors."""
    return torch.jit.script(_few)


class Packed(nn.Module):
    """x (..., dims) -> x weight' + bias (..., rows); FEW rows by oneDNN, from a second copy of the weights."""

    _packed: Optional[Tensor]  # in oneDNN's own order

    def __init__(self, module: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        self.weight, self.bias = module.weight, getattr(module, "bias", None)
        self.register_buffer("_packed", None, persistent=False)  # made at the first product that wants it

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        """What `forward` of a linear map gives."""
        if int(x.numel() // x.shape[-1]) not in FEW or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous())
        return (_scripted() if torch.jit.is_tracing() else _few)(x, self._packed, self.bias)


class PackedEmbedding(Packed):
    """ids (...) -> (..., dims); `product` makes it the output layer too."""

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


def lay_out(model: nn.Module) -> None:
    """Lays out every fp32 matrix that is on a CPU.

    Those with more rows than columns are turned: their product with one vector takes 60 to 80% of the time then.
    """
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        weight = module.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        if weight.shape[0] > weight.shape[1]:
            weight.data = weight.data.T.contiguous().T
        if weight.numel() >= LARGE and torch.backends.mkldnn.is_available():
            model.set_submodule(name, (PackedEmbedding if isinstance(module, nn.Embedding) else Packed)(module))
