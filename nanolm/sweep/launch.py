"""One job of a multirun, from any Hydra launcher: finds out what is to be done, has it done, says how it went.

In: the composed config of the job. Out: its val bits per byte (inf where it failed) for Hydra's sweeper, and a run
folder named by the swept values and 8 hex digits of the config. Launched again into the same folder, finished jobs
hand back their value, interrupted ones resume, failed ones start anew.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nanolm.errors import NanolmError, one_line
from nanolm.sweep import children
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import Job, job_name, record_failure
from nanolm.sweep.ranks import Ranks, are_several, joined
from nanolm.sweep.task import Task, make_task, next_task
from nanolm.workers import CORES


@dataclass
class Launched:
    """A job in the hands of this process.

    `config` makes its checked config; `until`: the share of its plan to train to; `log`: where it speaks, if several
    jobs share a terminal.
    """

    sweep: SweepFolder
    folder: Path
    config: Callable[[], Any]
    verb: Callable[..., Any]
    threads: int | None
    until: float
    log: Path | None

    def lead(self, ranks: Ranks | None = None) -> float:
        """Does what is to be done, with the other `ranks` where there are any; returns as `run_job`."""
        task = None
        try:
            if self.sweep.asked_to_stop():
                return math.inf
            say_begun(self.sweep, self.folder, self.until)
            task = prepare(self.config, self.folder, self.threads, self.until)
        finally:
            if ranks:
                ranks.tell({"resume": task.resume} if task else None)
        if task:
            child = children.start(task.call(self.verb), self.folder, self.log, ranks.variables if ranks else None)
            child.join()
            children.note_end(child, self.folder)
        say_ended(self.sweep, self.folder)
        return Job.read(self.folder).value

    def follow(self, ranks: Ranks) -> float:
        """What every process of a job but the first does; the launcher drops its result, so a fault ends the first."""
        if said := ranks.told():
            task = make_task(self.config(), self.folder, self.threads, self.until, said["resume"])
            child = children.start(task.call(self.verb), self.folder, None, ranks.variables)
            child.join()
        return math.inf


def run_job(node: DictConfig, typed: Callable[[DictConfig], Any], verb: Callable[..., Any]) -> float:
    """Runs one job of a multirun to its end, whatever happens; returns its val bits per byte, inf where it failed.

    `typed` turns the composed config into the verb's dataclass; `verb` is the training: `verb(config, overrides=[],
    folder=...)`. Both are functions at some module's top level. Of the several processes that a job may have, the
    first decides what is to be done, and all train.
    """
    hydra = HydraConfig.get()
    sweep = SweepFolder(hydra.sweep.dir)
    folder = job_folder(sweep, list(hydra.overrides.task), node)
    log, until = None, float(hydra.sweeper.get("until") or 1)
    if "n_jobs" in hydra.launcher:  # workers of joblib's, in one terminal
        _end_with_parent()
        log = folder / "log.txt"
    job = Launched(sweep, folder, partial(typed, node), verb, threads_per_job(hydra.launcher), until, log)
    if not are_several(hydra.launcher):
        return job.lead()
    try:
        with joined() as ranks:
            return job.lead(ranks) if ranks.rank == 0 else job.follow(ranks)
    except NanolmError as error:  # they can't meet
        record_failure(folder, error)
        return math.inf


def job_folder(sweep: SweepFolder, overrides: list[str], node: DictConfig) -> Path:
    """The folder of the job that `node` describes."""
    values = OmegaConf.to_container(node, resolve=True)
    return sweep.path / job_name(overrides, sweep.note()["swept"], values)


def prepare(config: Callable[[], Any], folder: Path, threads: int | None, until: float) -> Task | None:
    """The job's task; None if there is none: it is finished, or can't be begun, which its folder says then."""
    try:
        return next_task(config(), folder, threads, until)
    except (NanolmError, OSError) as error:
        if Job.read(folder).state == "finished":
            print(f"{folder}: is finished and left as it is: {one_line(error)}", file=sys.stderr)
        else:
            record_failure(folder, error)
        return None


def say_begun(sweep: SweepFolder, folder: Path, until: float) -> None:
    """`dims=64,heads=2-1f3a9c07 begins`, with `goes on to 33%` on the way to a rung."""
    sweep.mark_begun(folder.name)
    verb = "goes on" if Job.read(folder).begun else "begins"
    print(f"{folder.name} {verb}" + (f", to {until:.0%} of its plan" if until < 1 else ""), flush=True)


def say_ended(sweep: SweepFolder, folder: Path) -> None:
    """`3 of 8 ended: dims=64,heads=2-1f3a9c07 finished, 1.2345 bits per byte, 12 s`."""
    job = Job.read(folder)
    ended = sweep.mark_ended(f"{folder.name} {job.rung}")  # it may end once at each rung
    print(f"{ended} ended: {folder.name} {job.outcome}", flush=True)


def threads_per_job(launcher: Any) -> int | None:
    """The cores divided among joblib's jobs or a job's processes, or those asked of Slurm; None (torch's choice) where
    one process has all."""
    jobs = int(launcher.get("n_jobs") or launcher.get("tasks_per_node") or 1)
    if jobs == 1 or launcher.get("cpus_per_task"):
        return launcher.get("cpus_per_task")
    if jobs < 0:  # joblib's way to say: all cores but so many
        jobs = max(1, CORES + 1 + jobs)
    return max(1, CORES // jobs)


@cache
def _end_with_parent() -> None:
    """A joblib worker ends with the sweep's process, which may be killed; once in a worker."""
    parent = os.getppid()
    children.save_when(lambda: os.getppid() != parent or not psutil.pid_exists(parent))  # Windows keeps the number
