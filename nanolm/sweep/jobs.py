"""What is on disk of a sweep's jobs: a folder each, named by what is swept, whose status says how it went.

In: overrides, resolved values, exceptions. Out: names, values for Hydra's sweepers, status files. Starts nothing.
"""

import json
import math
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanolm.errors import NanolmError, one_line
from nanolm.files import fingerprint, write_atomic, write_json

NOT_THE_RESULT = {"outputs", "tracking", "run_name", "group", "tags", "threads", "resume"}  # of a job's config


@dataclass
class Job:
    """One job of a sweep: its folder, and what its status says; nothing where that is missing or damaged."""

    folder: Path
    status: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job in `folder`."""
        try:
            status = json.loads((folder / "status.json").read_text("utf-8"))
        except (OSError, ValueError):
            status = {}
        return cls(folder, status if isinstance(status, dict) else {})

    @property
    def state(self) -> str:
        """running, finished, stopped (at a rung), interrupted, failed, or `not begun`."""
        return str(self.status.get("state", "not begun"))

    @property
    def value(self) -> float:
        """Val bits per byte; inf unless finished."""
        return finite(self.status.get("val_bpb")) if self.state == "finished" else math.inf

    @property
    def rung(self) -> float:
        """The share of its plan at which a sweep stopped it; 0 if none did."""
        return float(self.status.get("rung") or 0) if self.state == "stopped" else 0.0

    @property
    def outcome(self) -> str:
        """Its state in words, with the score that it got: `stopped at 33%, 1.2345 bits per byte`."""
        if self.state == "stopped":
            return f"stopped at {self.rung:.0%}, {finite(self.status.get('rung_bpb')):.4f} bits per byte"
        if self.state == "finished":
            return f"finished, {self.value:.4f} bits per byte, {self.status.get('seconds') or 0:.0f} s"
        return f"{self.state}: {self.status['error']}" if self.status.get("error") else self.state

    @property
    def begun(self) -> bool:
        """Whether training can go on in the folder."""
        return (self.folder / "manifest.json").exists()


def finite(value: Any) -> float:
    """A finite number as it is; inf for everything else: Optuna's sweeper crashes at nan."""
    return value if isinstance(value, float) and math.isfinite(value) else math.inf


def job_name(overrides: Sequence[str], swept: Sequence[str], values: Any) -> str:
    """`dims=128,heads=4-1f3a9c07`: the swept values, shortened, and 8 hex digits of the resolved config."""
    shown = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in swept or not swept:
            shown.append(f"{last_part(key)}={_short(value)}")
    identity = values
    if isinstance(values, dict):
        identity = {key: value for key, value in values.items() if key not in NOT_THE_RESULT}
    return label(shown or ["job"], identity)


def label(parts: Sequence[str], identity: Any) -> str:
    """A name for a folder: `parts`, shortened, and 8 hex digits of `identity`."""
    words = re.sub(r"[^\w=.,+-]+", "_", ",".join(parts), flags=re.ASCII)[:80]
    return f"{words}-{fingerprint(identity)[:8]}"


def last_part(key: str) -> str:
    """`model.dims` -> `dims`."""
    return re.split("[./@]", key)[-1]


def _short(value: str) -> str:
    """A long number in four figures: the name's last part tells jobs apart."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def record_failure(folder: Path, error: BaseException, state: str = "failed") -> None:
    """Leaves the key line in status.json and the traceback beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "traceback.txt", "".join(traceback.format_exception(error)))
    line = one_line(error) or type(error).__name__
    if not isinstance(error, NanolmError):
        line = f"{type(error).__name__}: {line}"
    write_json(folder / "status.json", Job.read(folder).status | {"state": state, "error": line[:500]})
