"""What `tracking=offline` and `tracking=online` share: a run of Weights & Biases under <outputs>/wandb.

In: what a Logger is given. Out: one W&B run, all runs of a project together, for `wandb leet` and `wandb sync`.
What the config leaves open, W&B's own variables say: WANDB_PROJECT, _ENTITY, _NAME, _RUN_GROUP, _TAGS.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from nanolm.config import knob
from nanolm.errors import ConfigError
from nanolm.tracking.base import PATIENCE, Logger, RunInfo, TrackingConfig

QUIET = (  # settings of W&B's
    *("silent", "disable_git", "disable_code", "disable_job_creation"),
    *("x_disable_stats", "x_disable_meta", "x_disable_machine_info"),
)
LONGEST_TAG, LONGEST_NAME = 64, 128  # characters; W&B drops the whole run for one more
REFUSED = "/\\#?%:"  # in the name of a project


@dataclass
class WandbConfig(TrackingConfig):
    """A project of W&B's."""

    project: Optional[str] = knob(None, "of W&B; null: WANDB_PROJECT, else nanolm")
    entity: Optional[str] = knob(None, "a user or team of W&B's; null: WANDB_ENTITY, else your default one")

    def check(self, tags: Sequence[str], **names: str | None) -> None:
        places = {"tracking.project": self.project, "tracking.entity": self.entity}
        if self.project is None:
            places["WANDB_PROJECT"] = os.environ.get("WANDB_PROJECT") or None
        for key, name in places.items():
            if name is not None and (not 1 <= len(name) <= LONGEST_NAME or set(name) & set(REFUSED)):
                raise ConfigError(f"{key}={name}: must have 1 to {LONGEST_NAME} characters, none of them of {REFUSED}")
        for tag in tags:
            if not 1 <= len(tag) <= LONGEST_TAG:
                raise ConfigError(f"tags={tag}: has {len(tag)} characters; W&B takes 1 to {LONGEST_TAG}")
        for key, name in names.items():
            if name is not None and len(name) > LONGEST_NAME:
                raise ConfigError(f"{key}={name}: has {len(name)} characters; W&B takes at most {LONGEST_NAME}")


def environment_mode() -> str:
    """The option that WANDB_MODE means where the command names none; `run` and `dryrun` are its older words."""
    mode = os.environ.get("WANDB_MODE") or "offline"
    return {"run": "online", "shared": "online", "dryrun": "offline"}.get(mode, mode)


class WandbLogger(Logger):
    """A W&B run in the mode `offline` or `online`; the latter raises where the server doesn't answer."""

    def __init__(self, config: WandbConfig, run: RunInfo, mode: Literal["offline", "online"]) -> None:
        self.own_process = "wandb" not in sys.modules  # else the user has imported it, and may have runs of his own
        import wandb

        self.wandb = wandb
        self.run = wandb.init(mode=mode, settings=settings(wandb), **arguments(config, run))
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, row: Mapping[str, Any]) -> None:
        self.run.log(dict(row))

    def report(
        self, summary: Mapping[str, Any], samples: Sequence[tuple[str, str]], images: Mapping[str, Path]
    ) -> None:
        self.run.summary.update(dict(summary))
        pictures = {name: self.wandb.Image(str(path)) for name, path in images.items()}
        if samples:
            pictures["samples"] = self.wandb.Table(columns=["prompt", "text"], data=[list(row) for row in samples])
        if pictures:
            self.run.log(pictures)

    def close(self, status: int) -> None:
        self.run.finish(exit_code=status)
        if self.own_process:
            self.wandb.teardown()  # returns once the files are whole; a job of a sweep may end without atexit


def clear_folders() -> None:
    """Takes away the two temporary folders that importing W&B makes, for a process that ends now, and without what
    Python does at an end: that of a child which was forked."""
    with suppress(KeyError, AttributeError, OSError):  # it wasn't imported, or makes no such folders any more
        sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP.cleanup()
        sys.modules["wandb.sdk.artifacts.artifact"].Artifact._TMP_DIR.cleanup()


def arguments(config: WandbConfig, run: RunInfo) -> dict[str, Any]:
    """What wandb.init takes on the run; None where W&B is to look at its own variables."""
    named = run.run_name or "WANDB_NAME" not in os.environ
    return {
        "id": None if "WANDB_SWEEP_ID" in os.environ else run.id,  # a `wandb sweep` agent has chosen one
        "project": config.project or os.environ.get("WANDB_PROJECT") or "nanolm",
        "entity": config.entity,
        "dir": str(run.outputs),
        "name": run.display_name[:LONGEST_NAME] if named else None,
        "group": run.group,
        "tags": list(run.tags) or None,
        "job_type": "train",
        "config": dict(run.config),
    }


def settings(wandb: Any) -> Any:
    """Quiet ones; a killed run loses at most a second."""
    off = {"console": "off", "save_code": False, "x_save_requirements": False, **dict.fromkeys(QUIET, True)}
    waits = {"init_timeout": PATIENCE, "finish_timeout": PATIENCE}
    return wandb.Settings(**off, **waits, x_transaction_log_flush_interval=1.0)
