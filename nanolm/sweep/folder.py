"""A sweep's folder: what is swept, who is at it, which jobs the last launch has begun and ended, and a wish to stop.

In: a path. Out: small files in it, which the jobs (on any machine that has the folder) and compare.py read.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from nanolm.errors import NanolmError
from nanolm.files import read_json, user_path, write_json
from nanolm.locks import try_lock

NOTE = "sweep.json"  # what is swept, the command, when it was started
STOP = ".stop"  # a file that asks all jobs, wherever they run, to save and stop; in a run's folder that run alone
BEGUN, ENDED = ".begun", ".ended"  # folders with an empty file for each job of the last launch; of its last round


class SweepFolder:
    """The folder of one sweep; `lock` is held while this process leads the sweep."""

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        self.lock: FileLock | None = None

    def begin(self, swept: Sequence[str]) -> None:
        """Takes the folder for a new launch; NanolmError where another process is at it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = try_lock(self.path / ".lock")
        if self.lock is None:
            raise NanolmError(f"{self.path}: another process is at this sweep; wait for its end or stop it")
        (self.path / STOP).unlink(missing_ok=True)
        for marks in (BEGUN, ENDED):
            shutil.rmtree(self.path / marks, ignore_errors=True)
            (self.path / marks).mkdir()
        write_json(self.path / NOTE, {"swept": sorted(swept), "command": sys.argv, "started": time.time()})

    def note(self) -> dict[str, Any]:
        """What `begin` has written."""
        note: dict[str, Any] = read_json(self.path / NOTE)
        return note

    def begin_round(self, jobs: int) -> None:
        """From here on `jobs` jobs are counted as they end."""
        shutil.rmtree(self.path / ENDED, ignore_errors=True)
        (self.path / ENDED).mkdir()
        self.count(jobs)

    def count(self, jobs: int) -> None:
        """Notes how many jobs this round will have."""
        write_json(self.path / NOTE, self.note() | {"jobs": jobs})

    def mark_begun(self, job: str) -> None:
        """Notes that the last launch has had this job."""
        (self.path / BEGUN / job).touch()

    def mark_ended(self, job: str) -> str:
        """Notes that a job of this round has ended; `3 of 8`, or `3` where nobody knows how many there will be."""
        (self.path / ENDED / job).touch()
        return self.share(len(self.ended()))

    def share(self, ended: int) -> str:
        """`3 of 8`, or `3`."""
        jobs = self.note().get("jobs")
        return f"{ended} of {jobs}" if jobs else str(ended)

    def ended(self) -> list[str]:
        """What `mark_ended` has noted in this round, the earliest first."""
        marks = list[tuple[int, str]]()
        for file in (self.path / ENDED).glob("*"):
            with suppress(FileNotFoundError):  # another round begins
                marks.append((file.stat().st_mtime_ns, file.name))
        return [name for _, name in sorted(marks)]

    def begun(self) -> list[str]:
        """The names of the jobs that the last launch has had."""
        return sorted(file.name for file in (self.path / BEGUN).glob("*"))

    def ask_to_stop(self) -> None:
        """Asks every job to save and stop."""
        (self.path / STOP).touch()

    def asked_to_stop(self) -> bool:
        """Whether somebody has."""
        return (self.path / STOP).exists()

    def remove_if_empty(self) -> bool:
        """Removes the folder of a sweep that never had a job; whether it did."""
        if self.begun() or any(self.path.glob("*/status.json")):
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        return True
