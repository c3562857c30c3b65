"""What is to be done for one job of a sweep: nothing, go on where it stopped, or begin.

In: the job's composed config and its folder. Out: a Task for a child process, or None where all is done.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nanolm.errors import ConfigError
from nanolm.sweep.jobs import Job


@dataclass
class Task:
    """A training to be started: `folder` is the job's; `resume` says whether it goes on."""

    config: Any
    folder: Path
    resume: bool
    until: float  # the share of its plan to train to

    def call(self, verb: Callable[..., Any]) -> Callable[[], Any]:
        """The training as a function without arguments that a child process can be given."""
        if self.resume:
            return partial(verb, replace(self.config, resume=str(self.folder)), overrides=[], until=self.until)
        return partial(verb, self.config, overrides=[], folder=self.folder, until=self.until)


def next_task(config: Any, folder: Path, threads: int | None, until: float = 1.0) -> Task | None:
    """What `config` needs in `folder`, which is cleared or put aside for a job that begins.

    None if it is finished, or has come to the share `until` of its plan.

    Raises NanolmError for a config that no job can have, and where its text can't be read.
    """
    job = Job.read(folder)
    if is_done(job, config) or (job.state == "stopped" and job.rung >= until):
        return None
    if config.init in ("latest", "best"):
        raise ConfigError(f"init={config.init}: changes while a sweep runs; give the run's folder")
    resume = job.state in ("running", "interrupted", "stopped") and job.begun
    if job.state == "finished":  # on other documents than today's
        folder.rename(folder.with_name(f"{folder.name}-before-{time.time():.0f}"))
    elif folder.exists() and not resume:
        shutil.rmtree(folder)
    return make_task(config, folder, threads, until, resume)


def make_task(config: Any, folder: Path, threads: int | None, until: float, resume: bool) -> Task:
    """The task of a job whose folder is ready."""
    named = {"group": config.group or folder.parent.name, "run_name": config.run_name or folder.name}
    return Task(replace(config, threads=config.threads or threads, **named), folder, resume, until)


def is_done(job: Job, config: Any) -> bool:
    """Finished, and on the documents that the config names today."""
    if job.state != "finished":
        return False
    from nanolm.corpus.corpus import load_corpus

    return load_corpus(config.data, Path(config.outputs) / "cache").fingerprint == job.status.get("corpus")
