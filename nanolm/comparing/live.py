"""A sweep, or any set of runs, while it goes on: every job's state, progress, time left, cost and curves.

In: a CompareConfig. Out: `Jobs.look()`: plain values for the live page and the terminal; `Jobs.news()`: what of it has
changed. Files that haven't changed aren't read again, nothing is verified by checksums, and nothing is written.
"""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nanolm.comparing.charts import importance_values, run_values
from nanolm.comparing.columns import COLUMNS
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.figures import independent_knobs
from nanolm.comparing.growing import GrowingRun
from nanolm.comparing.importance import find_importance
from nanolm.comparing.record import Record, find_runs, find_sweep, is_number
from nanolm.comparing.table import differing_keys, knob_value, make_tables
from nanolm.errors import NanolmError
from nanolm.files import read_json

SCORE = "val_bpb"  # steers while it runs; test is scored at the end
PAUSE = 2.0  # seconds between two looks at the folders
SHARE = 0.025  # of a core that looking may take: with very many jobs the pause grows
Values = dict[str, Any]


class Jobs:
    """The jobs that `config` names, read again where they have changed."""

    def __init__(self, config: CompareConfig) -> None:
        self.config = config
        self.sweep = find_sweep(config.sweep, Path(config.outputs)) if config.sweep else None
        self.pause, self._cost = PAUSE, 0.0
        self.version = time.time_ns() // 1000  # greater than any that an earlier server has given the same page
        self._note = self._read_note()
        self._runs: dict[Path, GrowingRun] = {}
        self._importance: tuple[object, Values | None] = (None, None)
        self._shown: dict[str, dict[str, tuple[int, Any]]] = {}  # job -> field -> since which version, value

    def folders(self) -> list[Path]:
        """The run folders that there are by now."""
        if self.sweep is None:
            return find_runs(self.config)
        return sorted(file.parent for file in self.sweep.glob("*/status.json"))

    def look(self) -> Values:
        """All that is shown: what is known of the whole, and `jobs` in the order of their names."""
        begun, folders = time.process_time(), self.folders()
        self._note = self._read_note()
        self._runs = {folder: self._runs.get(folder) or GrowingRun(folder) for folder in folders}
        changed = {folder for folder, run in self._runs.items() if run.refresh()}
        records = [run.record for run in self._runs.values()]
        knobs = self.knobs(records)
        counted = "hydra/sweeper=halving" not in self._note["command"]  # which counts a job anew at each rung
        whole = {
            "title": self.sweep.name if self.sweep else self.config.runs or self.config.outputs,
            "started": _number(self._note.get("started")),
            "expected": _number(self._note.get("jobs")) if counted else None,
            "priced": self.config.price_per_hour is not None,
            "knobs": knobs,
            "score": COLUMNS[SCORE].header,
            "importance": self.importance(records),
            "names": [record.name for record in records],
        }
        anew = self._keep("", whole)
        jobs = []
        for folder, run in self._runs.items():
            if anew or folder in changed:
                self._keep(run.record.name, self.job(run, knobs))
            jobs.append({key: value for key, (_, value) in self._shown[run.record.name].items()})
        cost, self._cost = self._cost, time.process_time() - begun
        self.pause = max(PAUSE, min(cost, self._cost) / SHARE)  # the first is dearer than others
        return whole | {"version": self.version, "jobs": jobs}

    def news(self, since: int) -> Values:
        """After a look: the fields of the whole and of each job that have changed since a version."""
        changed = {name: self._later(name, since) for name in ["", *(run.record.name for run in self._runs.values())]}
        whole = changed.pop("")
        jobs = {name: fields for name, fields in changed.items() if fields}
        return {"version": self.version, "whole": whole, "jobs": jobs}

    def _keep(self, name: str, values: Values) -> bool:
        """Remembers what is shown of a job, and of what has changed since when; whether anything has."""
        known = self._shown.setdefault(name, {})
        new = {key: value for key, value in values.items() if key not in known or known[key][1] != value}
        if new:
            self.version += 1
            known |= {key: (self.version, value) for key, value in new.items()}
        return bool(new)

    def _later(self, name: str, since: int) -> Values:
        return {key: value for key, (version, value) in self._shown[name].items() if version > since}

    def _read_note(self) -> Values:
        """What the sweep says of itself; nothing where there is none."""
        try:
            found = read_json(self.sweep / "sweep.json") if self.sweep else {}
        except NanolmError:
            found = {}
        note = found if isinstance(found, dict) else {}
        lists = {key: note[key] if isinstance(note.get(key), list) else [] for key in ("swept", "command")}
        return note | {key: [str(word) for word in words] for key, words in lists.items()}

    def knobs(self, records: Sequence[Record]) -> list[str]:
        """What was swept; else what differs and no other knob decides."""
        known = [record for record in records if record.config]
        if swept := [key for key in self._note["swept"] if any(key in record.config for record in known)]:
            return swept
        keys = differing_keys(known, [])
        frame = pd.DataFrame([{key: knob_value(record, key) for key in keys} for record in known], columns=keys)
        return independent_knobs(frame, keys) if keys else []

    def importance(self, records: Sequence[Record]) -> Values | None:
        """Of the knobs, by the runs that have finished; found again when there are more."""
        finished = [record for record in records if not record.trouble]
        names = [record.name for record in finished]
        if names != self._importance[0]:
            tables, _ = make_tables(finished, SCORE, [])
            found = find_importance(tables[0]) if tables else None
            self._importance = names, importance_values(found) if found else None
        return self._importance[1]

    def job(self, run: GrowingRun, knobs: list[str]) -> Values:
        """A job in plain values. cost: core-hours, money: by the share of this machine's cores that it takes."""
        record = run.record
        status = record.status
        step, seconds = run.latest("step"), run.latest("seconds")
        steps = status.get("steps")
        share = min(1.0, step / steps) if is_number(steps) and steps and step else 0.0
        state = str(status.get("state", "not begun"))
        left = seconds * (1 - share) / share if state == "running" and share else None
        hours = seconds / 3600
        price = self.config.price_per_hour
        return run_values(record, knobs, SCORE) | {
            "state": state,
            "why": str(status.get("error") or ""),
            "rung": _number(status.get("rung")),
            "progress": 1.0 if state == "finished" else share,
            "score": run.score(SCORE),
            "seconds": seconds,
            "left": left,
            "ended": run.heard,
            "core_hours": hours * run.cores,
            "money": None if price is None else hours * price * min(1.0, run.cores / (os.cpu_count() or 1)),
            "samples": record.samples,
            "config": "\n".join(f"{key}: {value}" for key, value in record.config.items()),
            "command": self.command(record),
            "can_stop": state == "running",
            "can_promote": state in ("stopped", "interrupted"),
        }

    def command(self, record: Record) -> str:
        """What makes this run again by itself: the sweep's command with this job's values."""
        typed, swept = self._note["command"][1:], self._note["swept"]
        leave = ("-m", "--multirun", "hydra", "sweep=", *(f"{key}=" for key in swept))
        words = [word for word in typed if not word.lstrip("+~").startswith(leave)]
        own = [f"{key}={record.config[key]}" for key in swept if record.config.get(key) is not None]
        if not typed:
            own = [f"resume={record.name}"]
        return shlex.join(["python", "train.py", *words, *own])


def _number(value: Any) -> float | None:
    """A finite number as it is, None for anything else: a browser reads no nan."""
    return value if is_number(value) else None
