"""nanolm's sweepers and launchers under the names that Hydra looks for; what they do is in nanolm/sweep/.

Hydra imports every plugin at every start and makes an object of those that it uses: only then the work is imported.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Optional

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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


class LateSweeper(Sweeper):
    """A sweeper of nanolm/sweep/, imported once it is used."""

    def __init__(self, **knobs: Any) -> None:
        self.work = self.make(**knobs)

    @staticmethod
    @abstractmethod
    def make(**knobs: Any) -> Sweeper:
        """The sweeper that does the work."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.work.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Has the jobs of the sweep trained."""
        return self.work.sweep(arguments)


class GridSweeper(LateSweeper):
    """hydra/sweeper=grid."""

    @staticmethod
    def make(**knobs: Any) -> Sweeper:
        """Every combination."""
        from nanolm.sweep.grid import Grid

        return Grid(**knobs)


class HalvingSweeper(LateSweeper):
    """hydra/sweeper=halving."""

    @staticmethod
    def make(**knobs: Any) -> Sweeper:
        """The best go on."""
        from nanolm.sweep.halving import SuccessiveHalving

        return SuccessiveHalving(**knobs)


class LocalLauncher(Launcher):
    """hydra/launcher=local."""

    def __init__(self, n_jobs: Optional[int] = None) -> None:
        from nanolm.sweep.local import SideBySide

        self.work = SideBySide(n_jobs, typed, train, measure_speed)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.work.setup(hydra_context, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Has the jobs trained."""
        return self.work.launch(job_overrides)
