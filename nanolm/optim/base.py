"""What every optimizer shares: its knobs, the learning rate over time, and the learning rate of each kind of parameter.

In: a config and a model that tells its parameters' roles. Out: parameter groups with "lr" and "base_lr" scaled to the
model's width, and a factor per step. Knows nothing of data or of the training loop; torch is imported when building.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import MISSING, between, check_name, knob, one_of
from nanolm.optim.optimizer import AdamOptimizer

MATRICES = ("matrix", "end")  # the kinds of parameters that are Muon's
DECAYED = (*MATRICES, "output")  # those that weight decay is for


@dataclass
class OptimConfig:
    """The knobs of every optimizer."""

    name: str = MISSING
    lr: float = knob(2e-3, "peak learning rate at a width of 256, carried over to every other width")
    weight_decay: float = knob(0.1, "per step and unit of lr, of matrices only")
    beta1: float = knob(0.9, "of the mean of the gradients")
    beta2: float = knob(0.95, "of the mean of their squares")
    eps: float = knob(1e-8, "added to the root of that mean")
    clip: Optional[float] = knob(1.0, "largest norm of the whole gradient; null: no clipping")
    schedule: str = knob("linear", "linear | cosine | step | constant")
    warmup: float = knob(0.05, "a share of all steps if below 1, else a number of steps")
    final: float = knob(0.0, "share of lr left at the end of linear and cosine")
    step_every: int = knob(5, "epochs between the steps of schedule=step")
    step_factor: float = knob(0.5, "what such a step multiplies lr by")

    def __post_init__(self) -> None:
        check_name("optim", self)
        between("optim.lr", self.lr, 0, open_low=True)
        between("optim.weight_decay", self.weight_decay, 0)
        between("optim.beta1", self.beta1, 0, 0.99999)
        between("optim.beta2", self.beta2, 0, 0.99999)
        between("optim.eps", self.eps, 0, open_low=True)
        between("optim.clip", self.clip, 0, open_low=True)
        one_of("optim.schedule", self.schedule, list(SCHEDULES))
        between("optim.warmup", self.warmup, 0)
        between("optim.final", self.final, 0, 1)
        between("optim.step_every", self.step_every, 1)
        between("optim.step_factor", self.step_factor, 0, 1, open_low=True)

    def build(self, model: Any, precision: str = "fp32") -> AdamOptimizer:
        """The optimizer of `model`: its groups carry "lr" and "base_lr", its state holds only tensors.

        precision: of the training, fp32 or bf16; for products that the optimizer makes itself.
        """
        raise NotImplementedError


@dataclass
class KindsConfig(OptimConfig):
    """Those of an optimizer that has a learning rate for each kind of parameter."""

    embedding_lr: float = knob(1.0, "of the tokens' own vectors, as a share of lr")
    embedding_decay: float = knob(0.0, "of them, as a share of weight_decay; only where words are spelt as well")
    depth_scaling: bool = knob(True, "what blocks add learns at 4 / nblocks of lr, beyond 4 of them")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("optim.embedding_lr", self.embedding_lr, 0, open_low=True)
        between("optim.embedding_decay", self.embedding_decay, 0)

    def decay_of(self, kind: Any) -> float:
        """The weight decay of one kind of parameter, per unit of its own learning rate under Adam: the same pull per
        step at every width and depth (https://arxiv.org/abs/2405.13698)."""
        share = self.embedding_decay if kind.name == "embedding" and kind.spelt else float(kind.name in DECAYED)
        return self.weight_decay * share / kind.lr_scale

    def lr_of(self, kind: Any) -> float:
        """The peak learning rate of one kind of parameter under Adam."""
        return self.lr * kind.lr_scale * (self.embedding_lr if kind.name == "embedding" else 1.0)


def linear(config: OptimConfig, done: float, epochs: int) -> float:
    """Down to `final` in a straight line; done: the share of the steps after warmup that has been made."""
    return 1 - (1 - config.final) * done


def cosine(config: OptimConfig, done: float, epochs: int) -> float:
    """Down to `final` along half a cosine."""
    return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2


def step(config: OptimConfig, done: float, epochs: int) -> float:
    """Multiplied by `step_factor` every `step_every` epochs."""
    return config.step_factor ** (epochs // config.step_every)


def constant(config: OptimConfig, done: float, epochs: int) -> float:
    """As it is."""
    return 1.0


SCHEDULES: dict[str, Callable[[OptimConfig, float, int], float]] = {
    schedule.__name__: schedule for schedule in (linear, cosine, step, constant)
}


def lr_factor(config: OptimConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """The share of the peak learning rate at `step` (0 is the first) of `total`."""
    warmup = config.warmup * total if config.warmup < 1 else config.warmup
    if step < warmup:
        return min(1.0, (step + 1) / (warmup + 1))
    done = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return SCHEDULES[config.schedule](config, done, step // steps_per_epoch)


def adam_groups(config: KindsConfig, model: Any, skip: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """One group per kind of parameter (`model.kinds()`) but `skip`, with the lr that Adam wants at this size."""
    groups: list[dict[str, Any]] = []
    for kind in model.kinds(config.depth_scaling):
        if kind.parameters and kind.name not in skip:
            lr, decay = config.lr_of(kind), config.decay_of(kind)
            groups.append({"params": kind.parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    return groups
