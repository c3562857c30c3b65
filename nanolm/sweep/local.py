"""hydra/launcher=local: the jobs of a sweep on this machine, as many at once as is fastest.

In: overrides of the jobs. Out: their run folders, and their scores for Hydra's sweeper. A job that can't be composed
is that job's failure.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Optional

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nanolm.config import between
from nanolm.errors import NanolmError
from nanolm.sweep import children
from nanolm.sweep.compose import compose, record_uncomposable, without_hydra
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import Job
from nanolm.sweep.launch import job_folder, prepare, say_begun, say_ended
from nanolm.sweep.split import Split, choose_split
from nanolm.workers import CORES

Overrides = Sequence[str]


@dataclass
class Running:
    """A job that is being trained."""

    child: BaseProcess
    folder: Path
    overrides: Overrides
    slot: int


class SideBySide:
    """Hydra's launcher behind the plugin, which says what is trained: the sweep doesn't know.

    n_jobs: how many at once; None: as many as is fastest, measured once.
    """

    def __init__(
        self,
        n_jobs: Optional[int],
        typed: Callable[[DictConfig], Any],
        verb: Callable[..., Any],
        measure: Callable[..., None],
    ) -> None:
        between("hydra.launcher.n_jobs", n_jobs, 1)
        self.typed, self.verb, self.measure = typed, verb, measure
        self.split: Split | None = None
        if n_jobs is not None:
            self.split = Split(n_jobs, max(1, CORES // n_jobs)) if n_jobs > 1 else Split(1)

    def setup(self, context: HydraContext, settings: DictConfig) -> None:
        """What Hydra gives before `launch`."""
        self.context, self.settings = context, settings

    def launch(self, job_overrides: Sequence[Overrides]) -> Sequence[JobReturn]:
        """Runs them all; what is returned has their val bits per byte, inf for a job that has none."""
        waiting = iter(job_overrides)
        self.choose_split(job_overrides)
        folders = self.work(lambda: next(waiting, None), lambda overrides: None)
        returns = []
        for overrides in job_overrides:
            folder = folders.get(tuple(overrides))  # None: the sweep was stopped before it
            value = Job.read(folder).value if folder else math.inf
            returns.append(JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value))
        return returns

    def work(
        self, take: Callable[[], Overrides | None], done: Callable[[Overrides], None]
    ) -> dict[tuple[str, ...], Path]:
        """Runs what `take` gives until it gives nothing and all have ended; each is then told to `done`.

        Returns their folders by their overrides.
        """
        folders: dict[tuple[str, ...], Path] = {}
        sweep, running = SweepFolder(self.settings.hydra.sweep.dir), list[Running]()
        at_once = self.split.jobs if self.split else 1
        while True:
            while len(running) < at_once and not sweep.asked_to_stop() and (overrides := take()) is not None:
                slot = min(set(range(at_once)) - {one.slot for one in running})
                folder, child = self.start(sweep, overrides, slot)
                folders[tuple(overrides)] = folder
                if child:
                    running.append(Running(child, folder, overrides, slot))
                else:
                    done(overrides)
            if not running:
                return folders
            wait([one.child.sentinel for one in running])
            for one in [one for one in running if not one.child.is_alive()]:
                running.remove(one)
                children.note_end(one.child, one.folder)
                say_ended(sweep, one.folder)
                done(one.overrides)

    def start(self, sweep: SweepFolder, overrides: Overrides, slot: int) -> tuple[Path, BaseProcess | None]:
        """The job's folder, and its process unless there is nothing to be done."""
        try:
            node = compose(self.context, self.settings, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            return record_uncomposable(sweep, overrides, error), None
        own, until = without_hydra(node), float(node.hydra.sweeper.get("until") or 1)
        task_overrides = [word for word in overrides if not word.startswith("hydra.")]
        folder, split = job_folder(sweep, task_overrides, own), self.split or Split(1)
        say_begun(sweep, folder, until)
        task = prepare(lambda: self.typed(own), folder, split.threads, until)
        if task is None:
            say_ended(sweep, folder)
            return folder, None
        log = folder / "log.txt" if split.jobs > 1 else None
        return folder, children.start(task.call(self.verb), folder, log, gpu(split, slot))

    def choose_split(self, jobs: Sequence[Overrides]) -> None:
        """Settles how many run at once, if that isn't settled: measured on the largest of the jobs."""
        if self.split or len(jobs) < 2 or CORES < 2:
            return
        configs = []
        for overrides in jobs:
            try:
                configs.append(self.typed(without_hydra(compose(self.context, self.settings, overrides))))
            except (HydraException, OmegaConfBaseException, NanolmError):  # that job's failure, recorded when it starts
                continue
        if configs:
            largest = max(configs, key=lambda config: config.model.dims**2 * config.model.nblocks)
            cache = Path(largest.outputs) / "cache"
            self.split = choose_split(largest, len(jobs), self.measure, cache)


def gpu(split: Split, slot: int) -> dict[str, str]:
    """The environment that shows a job in this slot one GPU of several."""
    if split.gpus < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(split.gpus)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[slot % split.gpus]}
