"""Cross-entropy of the output layer without ever holding all logits: loss and gradient in one pass over chunks of rows.

In: hidden vectors (N, dims), the output weight (V, dims) and bias (V,) or None, targets (N,). Out: nats. Products run
in the autocast dtype or the hidden's own; logarithms and sums over rows and chunks in at least fp32.
By hand, because torch's F.linear_cross_entropy in chunks (2.13) took 1.7 times as long on a CPU in fp32, 3.3 in bf16.
"""

from collections.abc import Callable
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from nanolm.model.config import IGNORE

LOGITS = {"cpu": 2**21, "cuda": 2**27}  # about so many exist at a time: on a CPU about 256 rows of a large vocabulary
ALIGNED = {"cuda": 64}  # a GPU multiplies faster where the vocabulary is a multiple of this


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that products of x run in: autocast's where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def chunk_rows(device: torch.device, vocab_size: int) -> int:
    """How many rows are taken at a time."""
    return max(64, LOGITS.get(device.type, 2**24) // vocab_size)


def _aligned(weight: Tensor, bias: Optional[Tensor]) -> tuple[Tensor, Optional[Tensor]]:
    """The output layer with more tokens, which never occur, up to an ALIGNED vocabulary."""
    spare = -len(weight) % ALIGNED.get(weight.device.type, 1)
    if not spare:
        return weight, bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return F.pad(weight, (0, 0, 0, spare)), F.pad(bias, (0, spare), value=-torch.inf)


def _log_probs(logits: Tensor) -> Tensor:
    """(rows, V) in at least fp32."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _nats(log_probs: Tensor, targets: Tensor) -> Tensor:
    picked = log_probs.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1)
    return -picked.masked_fill(targets == IGNORE, 0.0)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b; in one dtype without a pass of its own over `total`, which is as large as the output layer."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Optional[Tensor], targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        need = any(ctx.needs_input_grad)
        low, low_bias = _aligned(weight.to(dtype), None if bias is None else bias.to(dtype))
        d_hidden = torch.empty_like(hidden, dtype=dtype) if need else None
        d_weight = torch.zeros_like(weight) if need else None
        d_bias = torch.zeros_like(bias) if need and bias is not None else None
        total = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        size = chunk_rows(weight.device, len(weight))
        for start in range(0, len(targets), size):
            part, target = hidden[start : start + size].to(dtype), targets[start : start + size]
            log_probs = _log_probs(F.linear(part, low, low_bias))
            total += _nats(log_probs, target).sum()
            if d_hidden is None or d_weight is None:
                continue
            index, real = target.clamp_min(0).unsqueeze(1), (target != IGNORE).to(dtype).unsqueeze(1)
            grad = log_probs.exp_().scatter_add_(1, index, log_probs.new_full(index.shape, -1.0))
            grad = grad.to(dtype)  # (rows, V): d nats / d logits
            d_hidden[start : start + size] = (grad @ low) * real
            _add_product(d_weight, grad.T[: len(weight)], part * real)
            if d_bias is not None:
                d_bias += (grad.T[: len(weight)] @ real).squeeze(1)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        d_hidden, d_weight, d_bias = (
            None if saved is None else saved * grad.to(saved.dtype) for saved in ctx.saved_tensors
        )
        return d_hidden, d_weight, d_bias, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Optional[Tensor], targets: Tensor) -> Tensor:
    """Summed nats of `targets` (N,) under softmax(hidden weight' + bias); rows whose target is IGNORE don't count.

    The same as F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum"), value and gradients.
    """
    dtype = compute_dtype(hidden)
    if hidden.device.type == "cpu":  # drop ignored rows; on a GPU that would wait for the device, so they are masked
        keep = targets != IGNORE
        hidden, targets = hidden[keep], targets[keep]
        if dtype.itemsize < 4:  # full chunks alone: oneDNN prepares each product anew for a shape that it hasn't seen
            spare = -len(targets) % chunk_rows(hidden.device, len(weight))
            hidden, targets = F.pad(hidden, (0, 0, 0, spare)), F.pad(targets, (0, spare), value=IGNORE)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype)


@torch.no_grad()
def target_nats(hidden: Tensor, logits: Callable[[Tensor], Tensor], targets: Tensor, vocab_size: int) -> Tensor:
    """(N,) float32 nats of each target, 0 where it is IGNORE; logits: (rows, dims) -> (rows, V)."""
    nats = torch.zeros(len(targets), device=hidden.device)
    rows = (targets != IGNORE).nonzero().squeeze(1)
    for part in rows.split(chunk_rows(hidden.device, vocab_size)):
        nats[part] = _nats(_log_probs(logits(hidden[part])), targets[part]).float()
    return nats
