"""What is on disk of a sweep's jobs: a folder each, named by what is swept, whose status says how it went; the table.

In: overrides, resolved values, exceptions. Out: names, values for Hydra's sweepers, status files. Starts nothing.
"""

import json
import math
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanolm.errors import NanolmError, one_line
from nanolm.files import fingerprint, write_atomic, write_json

NOT_THE_RESULT = {"outputs", "tracking", "run_name", "group", "tags", "threads", "resume"}  # of a job's config
NOTE = "sweep.json"  # in the sweep's folder: what is swept, the command, when it was started
BEGUN = ".begun"  # a folder beside it: an empty file for each job of the last launch


@dataclass
class Job:
    """One job of a sweep: its folder, and what its status says; nothing where that is missing or damaged."""

    folder: Path
    status: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job in `folder`."""
        try:
            status = json.loads((folder / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        return cls(folder, status if isinstance(status, dict) else {})

    @property
    def value(self) -> float:
        """Val bits per byte; inf unless finished."""
        value = self.status.get("val_bpb") if self.status.get("state") == "finished" else None
        return value if isinstance(value, float) and math.isfinite(value) else math.inf


def job_name(overrides: list[str], swept: list[str], values: dict[str, Any]) -> str:
    """`dims=128,heads=4-1f3a9c07`: the swept values, shortened, and 8 hex digits of the resolved config."""
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    shown = [f"{last_part(key)}={_short(value)}" for key, value in pairs if not swept or key in swept]
    identity = {key: value for key, value in values.items() if key not in NOT_THE_RESULT}
    return named(shown or ["job"], identity)


def named(parts: list[str], identity: Any) -> str:
    """A name for a folder: `parts`, shortened, and 8 hex digits of `identity`."""
    label = re.sub(r"[^\w=.,+-]+", "_", ",".join(parts), flags=re.ASCII)[:80]
    return f"{label}-{fingerprint(identity)[:8]}"


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


def report(sweep: Path) -> int:
    """Prints the table of the last launch's jobs; returns how many are neither done nor skipped."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    started = json.loads((sweep / NOTE).read_text())["started"]
    titles = ("job", "state", "val bits/byte", "time", "")
    table = Table(*titles, title=f"sweep {escape(str(sweep))}", title_justify="left")
    counts: dict[str, int] = {}
    jobs = [Job.read(sweep / file.name) for file in (sweep / BEGUN).glob("*")]
    for job in sorted(jobs, key=lambda job: (job.value, job.folder.name)):
        state = str(job.status.get("state", "not begun"))
        if state == "finished":
            state = "done" if (job.folder / "status.json").stat().st_mtime >= started else "skipped"
        counts[state] = counts.get(state, 0) + 1
        value = f"{job.value:.4f}" if math.isfinite(job.value) else ""
        seconds = f"{job.status.get('seconds') or 0:.0f} s"
        table.add_row(escape(job.folder.name), state, value, seconds, escape(str(job.status.get("error") or "")))
    console = Console(highlight=False)
    console.print(table)
    failed = sum(count for state, count in counts.items() if state not in ("done", "skipped"))
    console.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if "skipped" in counts:
        console.print("skipped: finished before, with the same config and documents")
    if failed:
        console.print("the same command again runs those, and only those, that are not done")
    return failed
