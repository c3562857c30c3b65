"""`optim=adam`: the original's. Torch's Adam at one learning rate for all, halved every five epochs, nothing else."""

from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import knob
from nanolm.optim.base import OptimConfig


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

    def build(self, model: Any) -> Any:
        import torch

        from nanolm.optim.steps.light import light

        groups, betas = [{"params": list(model.parameters()), "base_lr": self.lr}], (self.beta1, self.beta2)
        return light(torch.optim.Adam)(groups, self.lr, betas, self.eps, self.weight_decay, fused=True)
