"""nanolm's sweepers and launchers under the name that Hydra looks for; what they do is in nanolm/sweep/.

Hydra loads every plugin at every start, so nothing heavy is imported here.
"""

from typing import Any

from omegaconf import DictConfig

from nanolm.sweep.grid import Grid
from nanolm.sweep.halving import SuccessiveHalving
from nanolm.sweep.local import SideBySide


def typed(node: DictConfig) -> Any:
    """The typed config of a job."""
    from nanolm.cli.door import typed

    return typed(node)


def train(*arguments: Any, **how: Any) -> float:
    """The training, in a job's process."""
    from nanolm.training.train import train

    return train(*arguments, **how)


def measure_speed(*arguments: Any) -> None:
    """A second of training, in a process of its own."""
    from nanolm.training.speed import measure_speed

    measure_speed(*arguments)


class GridSweeper(Grid):
    """hydra/sweeper=grid."""


class HalvingSweeper(SuccessiveHalving):
    """hydra/sweeper=halving."""


class LocalLauncher(SideBySide):
    """hydra/launcher=local."""

    typed = staticmethod(typed)
    verb = staticmethod(train)
    measure = staticmethod(measure_speed)
