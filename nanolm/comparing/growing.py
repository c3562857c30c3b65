"""A run folder that is read again and again while it grows: only what has changed, of a growing file only what is new.

In: a folder. Out: a Record, the cores that the run computes with, its latest figures. A link, or what is no file, is
as if it weren't there: a stranger's run shows nothing of this machine.
"""

import os
import stat
from array import array
from collections.abc import Mapping
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanolm.comparing.record import LONGEST, Record, flatten, is_number, why_unranked
from nanolm.errors import NanolmError
from nanolm.files import read_json

FILES = ("status.json", "manifest.json", "config.json", "environment.json", "samples.txt", "metrics.csv")
COLUMNS = ("step", "tokens", "seconds", "train_loss", "val_bpb")


class GrowingRun:
    """One run; `refresh` reads what has changed in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record, self.cores = folder, Record(str(folder)), float(os.cpu_count() or 1)
        self.heard: float | None = None  # when it wrote its status or a step last, in seconds since 1970
        self._stamps: dict[str, tuple[float, int]] = {}
        self._metrics = GrowingTable(folder / "metrics.csv")

    def refresh(self) -> bool:
        """Reads what has changed since the last time; whether anything has."""
        stamps = {name: found for name in FILES if (found := stamp(self.folder / name))}
        new = {name for name, found in stamps.items() if found != self._stamps.get(name)}
        self._stamps = stamps
        record = self.record
        if {"status.json", "metrics.csv"} & new:
            self.heard = max(stamps[name][0] for name in ("status.json", "metrics.csv") if name in stamps)
        if "status.json" in new:
            record.status, record.ended = flatten(self._json("status.json")), stamps["status.json"][0]
            record.trouble = why_unranked(record.status)
        if any(name.endswith(".json") for name in new):
            self._read_config()
        with suppress(OSError):  # of a folder that is being removed
            if "metrics.csv" in new:
                record.curves = self._metrics.read()
            if "samples.txt" in new:
                with open(self.folder / "samples.txt", encoding="utf-8", errors="replace") as file:
                    record.samples = file.read(LONGEST)
        return bool(new)

    def _read_config(self) -> None:
        config, changes = self._json("config.json"), self._json("manifest.json").get("changed")
        machine, status = self._json("environment.json"), self.record.status
        self.record.config = flatten(config | (changes if isinstance(changes, dict) else {}))
        if precision := status.get("precision") or machine.get("precision"):
            self.record.config["precision"] = str(precision)
        threads, processes = machine.get("threads"), machine.get("processes")
        if is_number(threads) and is_number(processes):
            self.cores = threads * processes

    def _json(self, name: str) -> dict[str, Any]:
        """A file's values; none where it is missing or damaged."""
        try:
            found = read_json(self.folder / name) if name in self._stamps else {}
        except NanolmError:
            return {}
        return found if isinstance(found, dict) else {}

    def latest(self, column: str) -> float:
        """The last known value of a column of metrics.csv, or of the status; 0 where there is none."""
        latest, status = self._metrics.latest.get(column, 0.0), self.record.status.get(column)
        return max(latest, float(status)) if is_number(status) else latest

    def score(self, key: str) -> float | None:
        """A score on val: of the last evaluation while it runs, else of its end or its rung."""
        known = [self.record.status.get(key), self.record.status.get("rung_bpb")]
        latest = self._metrics.latest.get(key)
        known = [latest, *known] if self.record.status.get("state") == "running" else [*known, latest]
        return next(filter(is_number, known), None)


class GrowingTable:
    """A CSV file of numbers that grows: only whole new lines are read; all of it where it was cut or written anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self.columns = {name: array("d") for name in COLUMNS}
        self.latest: dict[str, float] = {}  # of each column the last number that is known
        self._head: list[str] = []
        self._end, self._last = 0, b""

    def read(self) -> pd.DataFrame:
        """COLUMNS as they are now; nan where a cell is empty or damaged."""
        with open(self.path, "rb") as file:
            file.seek(self._end - len(self._last))
            if file.read(len(self._last)) != self._last:  # of a resume, which cuts what came after its checkpoint
                self._begin()
                file.seek(0)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        for line in lines:
            cells = line.decode("utf-8", "replace").strip().split(",")
            if not self._head:
                self._head = cells
            else:
                self._add(dict(zip(self._head, cells, strict=False)))
        if lines:
            self._end, self._last = self._end + sum(map(len, lines)), lines[-1]
        return pd.DataFrame({name: np.array(values) for name, values in self.columns.items()})

    def _add(self, row: Mapping[str, str]) -> None:
        for name, values in self.columns.items():
            value = number(row.get(name, ""))
            values.append(value)
            if is_number(value):
                self.latest[name] = value


def number(text: str) -> float:
    """What a cell says; nan where it says nothing."""
    try:
        return float(text)
    except ValueError:
        return nan


def stamp(path: Path) -> tuple[float, int] | None:
    """When a plain file was changed last, in seconds since 1970, and its size; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_mtime, found.st_size) if stat.S_ISREG(found.st_mode) else None
