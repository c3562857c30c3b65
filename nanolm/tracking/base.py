"""What every option of the group `tracking` shares: its config, what it is told of a run, and the thread that logs.

In: a run's name, config, rows of figures and report. Out: calls of the option's Logger, one after another, in a thread
of their own, so that training never waits. Whatever a Logger does, training goes on: its failure costs one line.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

from nanolm.config import MISSING, build

PATIENCE = 60  # seconds for starting online, and for the upload at the end


@dataclass
class RunInfo:
    """What a Logger is told of the run before its first row."""

    id: str  # the same after a resume
    folder: Path  # of the run
    outputs: Path  # of all runs
    run_name: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)  # nested, of plain values

    @property
    def display_name(self) -> str:
        """What the run is called."""
        return self.run_name or self.folder.name


class Logger:
    """What an option of the group writes: the rows of a run, then its report. This one drops everything."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of figures with its `step`. After a resume steps come again, with the same values."""

    def report(
        self, summary: Mapping[str, Any], samples: Sequence[tuple[str, str]], images: Mapping[str, Path]
    ) -> None:
        """The end: figures that stand for the whole run, (prompt, text) of the samples, PNG files by their names."""

    def close(self, status: int) -> None:
        """Returns once everything is written; `status` as that of a process."""


@dataclass
class TrackingConfig:
    """An option of the group."""

    name: str = MISSING
    uploads: ClassVar[bool] = False  # such an option is never taken from a run folder, which may be a stranger's

    def check(self, tags: Sequence[str], **names: str | None) -> None:
        """Raises ConfigError for a tag, or for one of the run's names (by its key), that the option can't take."""

    def logger(self, run: RunInfo) -> Logger:
        """A Logger of this run, ready for rows. May take long, and may raise anything."""
        raise NotImplementedError


def read_tracking(values: Any) -> TrackingConfig:
    """The option that a run's config.json tells of. Early runs of format 1 call `name` `mode`, at every option."""
    if isinstance(values, Mapping) and "mode" in values:
        values = {key: value for key, value in values.items() if key != "mode"} | {"name": values["mode"]}
        if values["name"] == "disabled":
            values = {"name": "disabled"}
    config: TrackingConfig = build("tracking", values)
    return config


class Tracker(Logger):
    """Takes figures without waiting, and hands them to the Logger of `config` in the background."""

    def __init__(self, config: TrackingConfig, run: RunInfo) -> None:
        self.config, self.run = config, run
        self.tasks: SimpleQueue[Callable[[Logger], Any] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self.thread.start()

    def log(self, row: Mapping[str, Any]) -> None:
        row = dict(row)
        self.tasks.put(lambda logger: logger.log(row))

    def report(
        self, summary: Mapping[str, Any], samples: Sequence[tuple[str, str]], images: Mapping[str, Path]
    ) -> None:
        self.tasks.put(lambda logger: logger.report(summary, samples, images))

    def close(self, status: int = 0) -> None:
        self.tasks.put(lambda logger: logger.close(status))
        self.tasks.put(None)
        self.thread.join(2 * PATIENCE)
        if self.thread.is_alive():
            warn(f"{self.config.name} has not finished after {2 * PATIENCE} s; what it wrote till then is there")

    def _work(self) -> None:
        task = self.tasks.get()  # the first step doesn't wait: a Logger's imports begin once there is something to log
        logger = None
        try:
            logger = self.config.logger(self.run)
            while task is not None:
                task(logger)
                task = self.tasks.get()
        except Exception as error:  # whatever it was, training goes on
            warn(f"{self.config.name} stopped ({type(error).__name__}: {error}); metrics.csv has every figure")
            if logger is not None:
                with suppress(Exception):
                    logger.close(1)


def warn(line: str) -> None:
    """One line on stderr."""
    print("tracking: " + " ".join(line.split()), file=sys.stderr)
