"""`optim=muon`: hidden matrices by Muon, everything else by AdamW, as one optimizer.

In: a model. Out: the optimizer of `steps/muon.py`. Says which matrices are several maps stacked in one weight (query,
key, value), so that each is orthogonalised by itself.
"""

from dataclasses import dataclass
from typing import Any

from nanolm.config import between, knob
from nanolm.optim.base import OptimConfig, adam_groups


@dataclass
class Muon(OptimConfig):
    """https://kellerjordan.github.io/posts/muon; the other fields are as in AdamW.

    An orthogonal step has a size of its own: at width 256 it is scaled to the size of Adam's (0.2 per entry,
    https://arxiv.org/abs/2502.16982), so that one lr serves both, and carried to other widths by the spectral
    condition (https://arxiv.org/abs/2310.17813), under which lr doesn't depend on the width.
    """

    name: str = "muon"
    lr: float = 5e-3
    momentum: float = knob(0.95, "of the matrices")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("optim.momentum", self.momentum, 0, 0.99999)

    def build(self, model: Any) -> Any:
        from nanolm.optim.steps.muon import MuonAdamW

        stacked = {id(module.weight): module.parts for module in model.modules() if hasattr(module, "parts")}
        matrices: dict[tuple[int, ...], list[Any]] = {}
        for kind in model.kinds():
            for weight in kind.parameters if kind.name == "matrix" else []:
                matrices.setdefault(stacked.get(id(weight), (weight.shape[0],)), []).append(weight)
        common = {"lr": self.lr, "base_lr": self.lr, "weight_decay": self.weight_decay, "momentum": self.momentum}
        groups = [{"params": weights, "parts": parts, **common} for parts, weights in matrices.items()]
        return MuonAdamW(groups + adam_groups(self, model, skip="matrix"), self.lr, (self.beta1, self.beta2), self.eps)
