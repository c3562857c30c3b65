"""`optim=muon`: hidden matrices by Muon, everything else by AdamW, as one optimizer.

In: a model. Out: its optimizer. Says which matrices are several maps stacked in one weight (query, key, value), so that
each is orthogonalised by itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from nanolm.config import between, knob
from nanolm.model.config import BASE_DIMS
from nanolm.optim.base import MATRICES, KindsConfig, adam_groups
from nanolm.optim.optimizer import AdamOptimizer
from nanolm.optim.orthogonal import even_rows, orthogonalise
from nanolm.optim.sharing import cost_of, shared_out

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Muon(KindsConfig):
    """https://kellerjordan.github.io/posts/muon; the other fields are as in AdamW.

    An orthogonal step has a size of its own: at width 256 it is scaled to the size of Adam's (0.2 per entry,
    https://arxiv.org/abs/2502.16982), so that one lr serves both, and carried to other widths by the spectral
    condition (https://arxiv.org/abs/2310.17813), under which lr doesn't depend on the width. With `row_beta2` the rows
    of a step are brought to one size, by what they were in the last steps (NorMuon, https://arxiv.org/abs/2510.05491).
    """

    name: str = "muon"
    lr: float = 5e-3
    warmup: float = 0.02
    embedding_decay: float = 3.0
    momentum: float = knob(0.9, "of the matrices")
    row_beta2: Optional[float] = knob(0.95, "of the mean square of each row of a step, which evens rows; null: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("optim.momentum", self.momentum, 0, 0.99999)
        between("optim.row_beta2", self.row_beta2, 0, 0.99999)

    def build(self, model: Any, precision: str = "fp32") -> AdamOptimizer:
        import torch

        from nanolm.hardware import has_bf16

        stacked = {id(module.weight): module.parts for module in model.modules() if hasattr(module, "parts")}
        matrices: dict[tuple[tuple[int, ...], float], list[Any]] = {}
        for kind in model.kinds(self.depth_scaling):
            for weight in kind.parameters if kind.name in MATRICES else []:
                parts = stacked.get(id(weight), (weight.shape[0],))
                matrices.setdefault((parts, kind.depth_scale), []).append(weight)
        groups = []
        for (parts, scale), weights in matrices.items():
            group = {"params": weights, "parts": parts, "lr": self.lr * scale, "base_lr": self.lr * scale}
            group |= {"momentum": self.momentum, "row_beta2": self.row_beta2, "weight_decay": self.weight_decay / scale}
            groups.append(group)
        dtype = torch.bfloat16 if precision == "bf16" and has_bf16(model.device) else None
        return MuonOptimizer(
            groups + adam_groups(self, model, MATRICES), (self.beta1, self.beta2), self.eps, dtype=dtype
        )


class Update(NamedTuple):
    """One map on its way: `weight` (rows, cols), a view; `change`, the same or transposed, rows <= cols; and its lr.

    squares: (rows, 1), the mean square of each row of its steps, a view; None: rows stay as they come.
    """

    weight: Tensor
    change: Tensor
    lr: float
    squares: Tensor | None
    row_beta2: float | None


class MuonOptimizer(AdamOptimizer):
    """Muon for groups that have "parts", the rows of each map stacked in a weight, and "momentum"; AdamW for others.

    dtype: of the orthogonalisation of fp32; None: fp32 too.
    """

    def __init__(self, *how: Any, dtype: torch.dtype | None = None) -> None:
        super().__init__(*how)
        self.dtype = dtype

    def new_state(self, group: dict[str, Any], weight: Tensor) -> dict[str, Tensor]:
        if "parts" not in group:
            return super().new_state(group, weight)
        state = {"momentum": weight.detach().new_zeros(weight.shape)}
        if group.get("row_beta2") is not None:
            state["row_squares"] = weight.detach().new_zeros(len(weight), 1)
        return state

    def cost(self, group: dict[str, Any], weight: Tensor) -> int:
        if "parts" not in group:
            return super().cost(group, weight)
        return sum(cost_of(*sorted((part, weight.shape[1]))) for part in group["parts"])

    def step(self) -> None:
        import torch

        updates: list[Update] = []
        with torch.no_grad():
            for group in self.param_groups:
                if "parts" in group:
                    updates += self.prepare(group)
                else:
                    self.update(group)
            self.move(updates)

    def prepare(self, group: dict[str, Any]) -> list[Update]:
        """Momentum and weight decay of one group; what each of its maps is to be moved by, not orthogonal yet."""
        updates = []
        for weight in group["params"]:
            if weight.grad is None:
                continue
            momentum, grad, decay = self.state[weight]["momentum"], weight.grad, group["lr"] * group["weight_decay"]
            if self.found_inf is not None:
                grad, decay = grad.where(self.found_inf == 0, momentum), decay * (1 - self.found_inf)
            momentum.lerp_(grad, 1 - group["momentum"])
            nesterov = grad.lerp_(momentum, group["momentum"])  # the gradient has served
            weight.mul_(1 - decay)
            beta2, parts = group.get("row_beta2"), group["parts"]
            squares = [None] * len(parts) if beta2 is None else self.state[weight]["row_squares"].split(parts)
            for part, change, rows in zip(weight.split(parts), nesterov.split(parts), squares, strict=True):
                tall = part.shape[0] > part.shape[1]
                updates.append(Update(part, change.mT if tall else change, group["lr"], rows, beta2))
        return updates

    def low(self, change: Tensor) -> Tensor:
        """In the dtype of the orthogonalisation."""
        return change if self.dtype is None or change.itemsize != 4 else change.to(self.dtype)

    def move(self, updates: list[Update]) -> None:
        """Orthogonalises the updates, those of one shape together, and moves the weights by them."""
        import torch

        same: dict[Any, list[Update]] = defaultdict(list)
        for update in updates:
            same[update.change.shape].append(update)
        stacks = (torch.stack([self.low(update.change) for update in group]) for group in same.values())
        shapes = [(len(group), *shape) for shape, group in same.items()]
        done = map(orthogonalise, stacks) if self.parted else shared_out(orthogonalise, stacks, shapes)
        for group, changes in zip(same.values(), done, strict=True):
            for (weight, _, lr, squares, beta2), change in zip(group, changes, strict=True):
                rows, cols = weight.shape
                change = torch.empty_like(weight).copy_(change.mT if rows > cols else change)
                counts: Any = 1 if self.found_inf is None else 1 - self.found_inf
                size = counts * (lr * (0.2 * BASE_DIMS**0.5 * max(1, rows / cols) ** 0.5))
                even = (
                    even_rows(change, squares, (1 - beta2) * counts) if beta2 is not None else weight.new_ones(rows, 1)
                )
                weight.addcmul_(change, even * size, value=-1)
