"""Trainings in forked children, which cost no import, and what makes two finished runs equal.

In: a function to run in a child, and what to do to it from outside. Out: how it ended, and what it printed. The parent
has the heavy imports and starts no thread, so a fork is safe.
"""

import csv
import json
import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_run import rows

from nanolm.errors import NanolmError, one_line
from nanolm.runs.run import BEST, LAST
from nanolm.runs.weights import read_weights
from nanolm.training import loop, report

PHASES = ["start", "take_step", "score_split", "save_checkpoint", "write_weights", "finish"]
phase = mmap.mmap(-1, 8)  # shared: what the child is doing, and how many phases it has begun
COMPLAINT, CRASH = 1, 70  # exit statuses of a child: one line of ours; a traceback


@dataclass
class Ended:
    """How a child ended. `status`: its exit status, or minus the signal that killed it."""

    status: int
    output: str
    seconds: float

    @property
    def crashed(self) -> bool:
        return self.status not in (0, COMPLAINT) or "Traceback" in self.output


def child(work: Callable[[], Any], log: Path, during: Callable[[int], Any] = lambda pid: None) -> Ended:
    """Runs `work` in a fork, its output in the file `log`; `during(pid)` runs here meanwhile."""
    phase[:8] = bytes(8)
    began = time.perf_counter()
    if (pid := os.fork()) == 0:
        status = CRASH
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number in (1, 2):
                os.dup2(file, number)
            status = _obey(work)
            sys.stdout.flush()
        finally:
            os._exit(status)
    during(pid)
    _, code = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(code), log.read_text(errors="replace"), time.perf_counter() - began)


def _obey(work: Callable[[], Any]) -> int:
    """The status that the door of a verb would give."""
    try:
        work()
    except NanolmError as error:
        print(f"train.py: {one_line(error)}", file=sys.stderr)
        return COMPLAINT
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return CRASH
    return 0


def watched(pause: float = 0.0, draw: bool = False) -> None:
    """In a child: tells the parent the phase; every step takes `pause` longer; curves are drawn only if asked."""
    if not draw:
        report.draw_curves = lambda *_: None
    for number, name in enumerate(PHASES[1:], 1):
        place: Any = loop if hasattr(loop, name) else sys.modules["nanolm.training.train"]
        setattr(place, name, _telling(getattr(place, name), number, pause * (name == "take_step")))


def _telling(function: Callable[..., Any], number: int, pause: float) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before = phase[0]
        phase[0] = number
        time.sleep(pause)
        try:
            return function(*args, **kwargs)
        finally:
            phase[0] = before

    return call


def strike(pid: int, number: signal.Signals, after: float, within: int | None) -> tuple[str, bool]:
    """Sends the signal `after` seconds, or when phase `within` comes after that; (phase, whether it lived)."""
    end = time.perf_counter() + after
    while time.perf_counter() < end or (within is not None and phase[0] != within):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return PHASES[phase[0]], False
        time.sleep(0.0002)
    os.kill(pid, number)
    return PHASES[phase[0]], True


def differences(run: Path, whole: Path) -> list[str]:
    """What tells a finished run from one that was never interrupted, times aside; empty where nothing does."""
    found = []
    for name in (BEST, LAST):
        (tensors, note), (others, other) = read_weights(run / name), read_weights(whole / name)
        if tensors.keys() != others.keys() or not all(tensors[key].equal(others[key]) for key in tensors):
            found.append(f"{name}: other weights")
        if name == LAST and note["optimizer"] != other["optimizer"]:
            found.append(f"{name}: another optimizer")
    steps = [int(row["step"]) for row in rows(run)]
    if steps != sorted(set(steps)):
        found.append("metrics.csv: a step twice")
    if rows(run) != rows(whole):
        found.append("metrics.csv: other rows")
    if (run / "test_bits.csv").read_bytes() != (whole / "test_bits.csv").read_bytes():
        found.append("test_bits.csv: other bits")
    if litter := [path.name for path in run.iterdir() if path.name.endswith(".part")]:
        found.append(f"left behind: {litter}")
    return found


def history(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of figures in W&B's transaction logs, as `wandb leet` reads them."""
    found = []
    for file in files:
        command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found += [record for record in records if record.get("type") == "history"]
    return found


def metrics(run: Path) -> list[dict[str, float]]:
    """metrics.csv as numbers, times included."""
    with open(run / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
