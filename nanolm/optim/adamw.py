"""`optim=adamw`: AdamW, with the learning rate carried from width to width and decay on matrices only."""

from dataclasses import dataclass
from typing import Any

from nanolm.optim.base import OptimConfig, adam_groups


@dataclass
class AdamW(OptimConfig):
    """https://arxiv.org/abs/1711.05101; no decay on norms, biases and embeddings."""

    name: str = "adamw"

    def build(self, model: Any) -> Any:
        import torch

        from nanolm.optim.steps.light import light

        groups = adam_groups(self, model)
        return light(torch.optim.AdamW)(groups, self.lr, (self.beta1, self.beta2), self.eps, fused=True)
