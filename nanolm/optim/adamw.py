"""`optim=adamw`: AdamW, with the learning rate carried from width to width and decay on matrices only."""

from dataclasses import dataclass
from typing import Any

from nanolm.optim.base import KindsConfig, adam_groups
from nanolm.optim.optimizer import AdamOptimizer


@dataclass
class AdamW(KindsConfig):
    """https://arxiv.org/abs/1711.05101; no decay on norms, biases and embeddings."""

    name: str = "adamw"

    def build(self, model: Any, precision: str = "fp32") -> AdamOptimizer:
        return AdamOptimizer(adam_groups(self, model), (self.beta1, self.beta2), self.eps)
