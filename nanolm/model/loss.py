"""Cross-entropy of the output layer without ever holding all logits: loss and gradient in one pass over chunks of rows.

In: hidden vectors (N, dims), the output weight (V, dims) and bias (V,) or None, targets (N,). Out: nats. Products run
in the autocast dtype or the hidden's own; logarithms and sums over rows and chunks in at least fp32.
By hand, because torch's F.linear_cross_entropy in chunks (2.13) took 1.7 times as long on a CPU in fp32, 3.3 in bf16.
"""

from collections.abc import Callable, Iterator
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from nanolm.model.config import IGNORE

LOGITS = {"cpu": 2**24, "cuda": 2**27}  # about so many exist at a time
FULL, SMALL = 512, 128  # rows of a chunk on a CPU: with fewer the output layer's gradient is added up too often
CACHED = 2**18  # entries that stay in a core's cache, of probabilities while they become a gradient, say
ALIGNED = {"cuda": 64}  # a GPU multiplies faster where the vocabulary is a multiple of this


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that products of x run in: autocast's where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def chunk_rows(device: torch.device, vocab_size: int) -> int:
    """How many rows are multiplied at a time."""
    rows = LOGITS.get(device.type, 2**24) // vocab_size
    return max(SMALL, min(rows // SMALL * SMALL, FULL) if device.type == "cpu" else rows)


def chunks(rows: int, full: int, small: int) -> Iterator[slice]:
    """`full` rows at a time, and `small` ones of what is left."""
    start = 0
    while start < rows:
        size = full if rows - start >= full else small
        yield slice(start, start + size)
        start += size


def _few_shapes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether two sizes of chunks must do: oneDNN prepares a bf16 product anew for a shape that it hasn't seen."""
    return device.type == "cpu" and dtype.itemsize < 4


def cached_rows(table: Tensor) -> int:
    """How many rows of (rows, columns) are worked on at a time."""
    return max(1, CACHED // table.shape[1]) if table.device.type == "cpu" else len(table)


def _aligned(weight: Tensor, bias: Optional[Tensor]) -> tuple[Tensor, Optional[Tensor]]:
    """The output layer with more tokens, which never occur, up to an ALIGNED vocabulary."""
    spare = -len(weight) % ALIGNED.get(weight.device.type, 1)
    if not spare:
        return weight, bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return F.pad(weight, (0, 0, 0, spare)), F.pad(bias, (0, spare), value=-torch.inf)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What sums and logarithms are made in."""
    return torch.promote_types(dtype, torch.float32)


def _to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed nats of the targets that aren't IGNORE; the logits (rows, V) become each row's d nats / d logits."""
    wide, rows = _wide(logits.dtype), cached_rows(logits)
    nats = torch.zeros((), dtype=wide, device=logits.device)
    for some, target in zip(logits.split(rows), targets.split(rows), strict=True):
        probs, index = some.softmax(-1, dtype=wide), target.clamp_min(0).unsqueeze(1)
        picked = probs.gather(1, index)
        surprise = -picked.clamp_min(torch.finfo(wide).tiny).log().squeeze(1)
        nats += surprise.masked_fill(target == IGNORE, 0.0).sum()
        some.copy_(probs.scatter_(1, index, picked - 1))
    return nats


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b; in one dtype without a pass of its own over `total`, which is as large as the output layer; else,
    on a CPU, some rows at a time, as torch makes a wide copy of them first."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
        return
    rows = cached_rows(total)
    for some, more in zip(total.split(rows), (a @ b).split(rows), strict=True):
        some += more


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
        total = torch.zeros((), dtype=_wide(hidden.dtype), device=hidden.device)
        full = chunk_rows(weight.device, len(weight))
        for rows in chunks(len(targets), full, SMALL if _few_shapes(dtype, weight.device) else full):
            part, target = hidden[rows].to(dtype), targets[rows]
            grad = F.linear(part, low, low_bias)  # logits, which the next line turns into their gradient
            total += _to_gradient(grad, target)
            if d_hidden is None or d_weight is None:
                continue
            real = (target != IGNORE).to(dtype).unsqueeze(1)
            d_hidden[rows] = (grad @ low) * real
            _add_product(d_weight, grad.T[: len(weight)], part * real)
            if d_bias is not None:
                d_bias += (grad.T[: len(weight)] @ real).squeeze(1)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        d_hidden, d_weight, d_bias = (  # in place: d_weight is as large as the output layer
            None if saved is None else saved.mul_(grad.to(saved.dtype)) for saved in ctx.saved_tensors
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
        if _few_shapes(dtype, hidden.device):
            spare = -len(targets) % SMALL
            hidden, targets = F.pad(hidden, (0, 0, 0, spare)), F.pad(targets, (0, spare), value=IGNORE)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype)


@torch.no_grad()
def target_nats(hidden: Tensor, logits: Callable[[Tensor], Tensor], targets: Tensor, vocab_size: int) -> Tensor:
    """(N,) float32 nats of each target, 0 where it is IGNORE; logits: (rows, dims) -> (rows, V)."""
    nats = torch.zeros(len(targets), device=hidden.device)
    rows = (targets != IGNORE).nonzero().squeeze(1)
    for part in rows.split(chunk_rows(hidden.device, vocab_size)):
        made = logits(hidden[part])
        size = cached_rows(made)
        for some, place in zip(made.split(size), part.split(size), strict=True):
            log_probs = some.log_softmax(-1, dtype=_wide(some.dtype))
            nats[place] = -log_probs.gather(1, targets[place].unsqueeze(1)).squeeze(1).float()
    return nats
