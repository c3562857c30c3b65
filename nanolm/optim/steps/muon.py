"""Muon for groups that have `parts`, AdamW for the others, in one optimizer with one state dict of tensors and numbers.

In: gradients. Out: changed parameters. Knows no model: `parts` are the rows of each map stacked in a weight.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Optional

import torch
from torch import Tensor

from nanolm.hardware import has_bf16
from nanolm.optim.steps.light import light

BASE_DIMS = 256  # the width at which a step has the size of Adam's
MARGIN = 1.01  # keeps singular values inside the interval under rounding
# the quintics of Polar Express, https://arxiv.org/abs/2505.16932: five bring 0.003..1 to 1 within 0.15 or so
POLAR = tuple(
    (a / MARGIN, b / MARGIN**3, c / MARGIN**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)


def orthogonalise(x: Tensor) -> Tensor:
    """(n, rows, cols) with rows <= cols -> about U V' of each, in x's dtype, by Newton-Schulz."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) * MARGIN + 1e-7)
    if x.shape[2] >= 2 * x.shape[1] and x.itemsize >= 4:
        return _polynomial(x @ x.mT) @ x
    for a, b, c in POLAR:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """What all steps together multiply x with, from x x' alone: for a wide x in 60 to 70% of the time.

    Not in 16 bits, where the squares of small singular values would drown.
    """
    whole = step = _factor(gram, *POLAR[0])
    for quintic in POLAR[1:]:
        gram = step @ gram @ step
        step = _factor(gram, *quintic)
        whole = step @ whole
    return whole


def _factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a I + b gram + c gram^2."""
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


class MuonAdamW(light(torch.optim.AdamW)):  # type: ignore[misc]
    """Groups with `parts` need "momentum"; all need "lr" and "weight_decay". As in torch's fused AdamW, nothing changes
    at a step where the attribute `found_inf`, a tensor on the device, is 1."""

    param_groups: list[dict[str, Any]]

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(list(groups), lr, betas, eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Any:
        """One step of every parameter that has a gradient."""
        groups = self.param_groups
        self._muon([group for group in groups if "parts" in group])
        self.param_groups = [group for group in groups if "parts" not in group]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _muon(self, groups: list[dict[str, Any]]) -> None:
        same: dict[torch.Size, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)  # shape -> (map, update, lr)
        bad: Tensor | None = getattr(self, "found_inf", None)
        good = 1.0 if bad is None else 1 - bad
        for group in groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:  # AdamW restores a "step" of every parameter
                    state |= {"momentum": torch.zeros_like(weight), "step": torch.zeros((), device=weight.device)}
                state["step"] += good
                grad = weight.grad if bad is None else weight.grad.where(bad == 0, state["momentum"])
                state["momentum"].lerp_(grad, 1 - group["momentum"])
                update = grad.lerp(state["momentum"], group["momentum"])  # Nesterov's
                weight.mul_(1 - group["lr"] * group["weight_decay"] * good)
                for part, change in zip(weight.split(group["parts"]), update.split(group["parts"]), strict=True):
                    wide = change if change.shape[0] <= change.shape[1] else change.mT
                    same[wide.shape].append((part, wide, group["lr"]))
        for entries in same.values():
            stack = torch.stack([update for _, update, _ in entries])
            for (part, _, lr), update in zip(entries, orthogonalise(stack.to(_dtype(stack))), strict=True):
                rows, cols = part.shape
                size = 0.2 * BASE_DIMS**0.5 * max(1, rows / cols) ** 0.5
                part.sub_((update if rows <= cols else update.mT) * (lr * size * good))


def _dtype(x: Tensor) -> torch.dtype:
    return torch.bfloat16 if x.dtype == torch.float32 and has_bf16(x.device) else x.dtype
