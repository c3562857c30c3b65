"""Tracking in Weights & Biases: offline unless asked, never in the way of training.

In: a run's name, config and rows of figures. Out: a W&B run under <outputs>/wandb, all runs of a project together, for
`wandb leet` and `wandb sync`. Knows no model. One thread imports W&B, starts it and logs; its failure costs one line.
"""

import netrc
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Optional
from urllib.parse import urlsplit

from nanolm.config import knob, one_of

QUIET = (  # settings of W&B's
    *("silent", "disable_git", "disable_code", "disable_job_creation"),
    *("x_disable_stats", "x_disable_meta", "x_disable_machine_info"),
)
PATIENCE = 60  # seconds for starting online, and for the upload at the end


@dataclass
class TrackingConfig:
    """offline: under <outputs>/wandb, `wandb sync` uploads it; online: needs `wandb login`; disabled: nothing."""

    mode: str = knob("offline", "offline | online | disabled")
    project: str = knob("nanolm", "of W&B")
    entity: Optional[str] = knob(None, "a user or team of W&B's; null: your default one")

    def __post_init__(self) -> None:
        one_of("tracking.mode", self.mode, ("offline", "online", "disabled"))


class Tracker:
    """Takes figures without waiting. `about`: what wandb.init takes on the run (id, name, group, tags, config ...)."""

    def __init__(self, config: TrackingConfig, outputs: Path, about: Mapping[str, Any]) -> None:
        self.config, self.outputs, self.about = config, outputs, dict(about)
        self.tasks: SimpleQueue[Callable[[Any, Any], Any] | None] = SimpleQueue()  # of (the wandb module, its run)
        self.thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        if config.mode != "disabled":
            self.thread.start()

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of figures with its `step`. After a resume steps come again, with the same values."""
        row = dict(row)
        self.tasks.put(lambda _, run: run.log(row))

    def report(
        self, summary: Mapping[str, Any], samples: Sequence[tuple[str, str]], images: Mapping[str, Path]
    ) -> None:
        """The end: figures that stand for the whole run, (prompt, text) of the samples, PNG files by their names."""

        def task(wandb: Any, run: Any) -> None:
            run.summary.update(dict(summary))
            table = wandb.Table(columns=["prompt", "text"], data=[list(row) for row in samples])
            run.log({"samples": table, **{name: wandb.Image(str(path)) for name, path in images.items()}})

        self.tasks.put(task)

    def close(self, status: int = 0) -> None:
        """Waits until everything is written; `status` as that of a process."""
        self.tasks.put(lambda _, run: run.finish(exit_code=status))
        self.tasks.put(None)
        if self.thread.is_alive():
            self.thread.join(2 * PATIENCE)
            if self.thread.is_alive():
                _say(f"W&B has not finished after {2 * PATIENCE} s; {self.outputs / 'wandb'} has what it wrote")

    def _work(self) -> None:
        task = self.tasks.get()  # the first step doesn't wait for W&B: it is loaded once there is something to log
        mine = "wandb" not in sys.modules  # and not the user's, with runs of its own
        try:
            import wandb

            with self._start(wandb) as run:
                run.define_metric("step")
                run.define_metric("*", step_metric="step")
                while task is not None:
                    task(wandb, run)
                    task = self.tasks.get()
            if mine:
                wandb.teardown()  # returns once the files are whole; a job of a sweep may end without atexit
        except Exception as error:  # whatever W&B does, training goes on
            _say(f"W&B stopped ({type(error).__name__}: {error}); the run goes on, metrics.csv has every figure")

    def _start(self, wandb: Any) -> Any:
        off = {"console": "off", "save_code": False, "x_save_requirements": False, **dict.fromkeys(QUIET, True)}
        waits = {"init_timeout": PATIENCE, "finish_timeout": PATIENCE}
        # a killed run loses at most a second
        settings = wandb.Settings(**off, **waits, x_transaction_log_flush_interval=1.0)
        known = {"project": self.config.project, "entity": self.config.entity, "dir": str(self.outputs)}
        about = {**known, **self.about, "job_type": "train", "settings": settings}
        if "WANDB_SWEEP_ID" in os.environ:
            del about["id"]  # a `wandb sweep` agent has chosen one
        if self.config.mode == "online":
            try:
                if has_account():
                    return wandb.init(mode="online", **about)
                _say("no W&B account found (`wandb login` makes it known): tracked offline")
            except Exception as error:
                _say(f"W&B can't be reached ({type(error).__name__}): tracked offline, `wandb sync` uploads it later")
        return wandb.init(mode="offline", **about)


def has_account() -> bool:
    """Whether W&B would find a key without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _say(line: str) -> None:
    print("tracking: " + " ".join(line.split()), file=sys.stderr)
