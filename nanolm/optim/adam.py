"""`optim=adam`: the original's. Adam at one learning rate for all, halved every five epochs, nothing else."""

from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import knob
from nanolm.optim.base import OptimConfig
from nanolm.optim.optimizer import AdamOptimizer


@dataclass
class Adam(OptimConfig):
    """No weight decay on the side (decay, if any, is added to the gradient), no clipping, no scaling with width."""

    name: str = "adam"
    lr: float = knob(1e-3, "peak learning rate, whatever the width")
    weight_decay: float = knob(0.0, "added to the gradient")
    beta2: float = 0.999
    clip: Optional[float] = None
    schedule: str = "step"
    warmup: float = 0.0

    def build(self, model: Any, precision: str = "fp32") -> AdamOptimizer:
        group = {"params": list(model.parameters()), "lr": self.lr, "base_lr": self.lr}
        group["weight_decay"] = self.weight_decay
        return AdamOptimizer([group], (self.beta1, self.beta2), self.eps, decoupled=False)
