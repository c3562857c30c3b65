"""`tracking=offline`: Weights & Biases without account or network; `wandb sync` uploads it later."""

from dataclasses import dataclass

from nanolm.tracking.base import Logger, RunInfo
from nanolm.tracking.wandb import WandbConfig, WandbLogger


@dataclass
class Offline(WandbConfig):
    """A run in <outputs>/wandb."""

    name: str = "offline"

    def logger(self, run: RunInfo) -> Logger:
        return WandbLogger(self, run, "offline")
