"""A sweep, or any set of runs, while it goes on: every job's state, progress, time left, cost and curves.

In: a CompareConfig. Out: `Jobs.look()`: plain values for the live page and the terminal. Files that haven't changed
aren't read again, nothing is verified by checksums, and nothing is written.
"""

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanolm.comparing.charts import charts, run_values
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.importance import Importance, find_importance
from nanolm.comparing.records import Record, find_runs, find_sweep, is_number, read_record
from nanolm.comparing.table import differing_keys, make_tables
from nanolm.files import read_json

SCORE = "val_bpb"  # steers while it runs; test is scored at the end
GOING = ("running", "not begun")
FILES = ("status.json", "metrics.csv", "samples.txt", "rungs.json")


@dataclass
class Seen:
    """A job as it was read, and the times of its files then."""

    times: tuple[int, ...]
    record: Record
    cores: float  # that it computes with
    shown: tuple[Any, ...] = ()  # the knobs, and what was made of it with them: its row and its part of the charts


class Jobs:
    """The jobs that `config` names, read again where they have changed."""

    def __init__(self, config: CompareConfig) -> None:
        self.config = config
        self.sweep = find_sweep(config.sweep, Path(config.outputs)) if config.sweep else None
        self._seen: dict[Path, Seen] = {}
        self._importance: tuple[tuple[str, ...], Importance | None] = ((), None)
        self.version = 0

    def read(self) -> list[Record]:
        """Every job's record, in the order of their names."""
        for folder in self.folders():
            times = tuple(_time(folder / name) for name in FILES)
            if folder not in self._seen or self._seen[folder].times != times:
                self._seen[folder] = Seen(times, read_record(folder, verify=False), _cores(folder))
                self.version += 1
        return [seen.record for _, seen in sorted(self._seen.items())]

    def folders(self) -> list[Path]:
        """The run folders that there are by now."""
        if self.sweep is None:
            return find_runs(self.config)
        return sorted(file.parent for file in self.sweep.glob("*/status.json"))

    def look(self) -> dict[str, Any]:
        """All that is shown."""
        records = self.read()
        note = self.note()
        swept = [key for key in note.get("swept", []) if any(key in record.config for record in records)]
        knobs = swept or differing_keys([record for record in records if record.config], [])
        made = [self.values(record, knobs) for record in records]
        return {
            "version": self.version,
            "title": self.sweep.name if self.sweep else self.config.runs or self.config.outputs,
            "expected": note.get("jobs"),
            "elapsed": time.time() - note["started"] if is_number(note.get("started")) else None,
            "jobs": [row for row, _ in made],
            "priced": self.config.price_per_hour is not None,
            "charts": charts([run for _, run in made], knobs, SCORE, None, self.importance(records)),
        }

    def values(self, record: Record, knobs: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A job's row and its part of the charts, made anew where it has changed."""
        seen = self._seen[Path(record.name)]
        if not seen.shown or seen.shown[0] != knobs:
            run = run_values(record, knobs, SCORE)
            seen.shown = knobs, self.row(record, run["label"]), run
        return seen.shown[1], seen.shown[2]

    def importance(self, records: Sequence[Record]) -> Importance | None:
        """Of the knobs, by the runs that have finished; found again when there are more."""
        finished = [record for record in records if not record.trouble]
        names = tuple(record.name for record in finished)
        if names != self._importance[0]:
            tables, _ = make_tables(finished, SCORE, [])
            self._importance = names, find_importance(tables[0])
        return self._importance[1]

    def note(self) -> dict[str, Any]:
        """What the sweep says of itself; nothing where there is none."""
        path = self.sweep and self.sweep / "sweep.json"
        return dict(read_json(path)) if path and path.exists() else {}

    def row(self, record: Record, label: str) -> dict[str, Any]:
        """A job in plain values. cost: core-hours, money: by the share of this machine's cores that it takes."""
        status, folder = record.status, Path(record.name)
        cores = self._seen[folder].cores
        step, seconds = _latest(record, "step"), _latest(record, "seconds")
        steps = status.get("steps")
        share = min(1.0, step / steps) if is_number(steps) and steps and step else 0.0
        state = str(status.get("state", "not begun"))
        left = seconds * (1 - share) / share if state == "running" and share else None
        hours = seconds / 3600
        price = self.config.price_per_hour
        return {
            "name": record.name,
            "label": label,
            "state": state,
            "why": status.get("error") or "",
            "rung": status.get("rung"),
            "progress": 1.0 if state == "finished" else share,
            "score": _score(record),
            "seconds": seconds,
            "left": left,
            "core_hours": hours * cores,
            "money": None if price is None else hours * price * min(1.0, cores / (os.cpu_count() or 1)),
            "samples": record.samples,
            "command": self.command(record),
            "can_stop": state == "running",
            "can_promote": state in ("stopped", "interrupted"),
        }

    def command(self, record: Record) -> str:
        """What makes this run again by itself: the sweep's command with this job's values."""
        typed = [str(word) for word in self.note().get("command", [])[1:]]
        swept = self.note().get("swept", [])
        leave = ("-m", "--multirun", "hydra", "sweep=", *(f"{key}=" for key in swept))
        words = [word for word in typed if not word.lstrip("+~").startswith(leave)]
        own = [f"{key}={record.config[key]}" for key in swept if record.config.get(key) is not None]
        if not typed:
            own = [f"resume={record.name}"]
        return shlex.join(["python", "train.py", *words, *own])


def _score(record: Record) -> float | None:
    """Val bits per byte: of the end, of the rung, or of the last evaluation."""
    known = (record.status.get(key) for key in (SCORE, "rung_bpb"))
    return next(filter(is_number, known), None) or _latest(record, SCORE) or None


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _cores(folder: Path) -> float:
    """The cores that a run computes with; all of the machine's where it doesn't say."""
    try:
        known = json.loads((folder / "environment.json").read_text("utf-8"))
        return float(known["threads"] * known["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return float(os.cpu_count() or 1)


def _latest(record: Record, column: str) -> float:
    """The last known value of a column of metrics.csv, or of the status; 0 where there is none."""
    known = record.curves[column].dropna().tolist() if column in record.curves else []
    latest = float(known[-1]) if known else 0.0
    status = record.status.get(column)
    return max(latest, float(status)) if is_number(status) and column != SCORE else latest
