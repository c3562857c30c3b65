"""Interrupted trainings: killed, asked to stop, on a full or read-only disk, under a clock that jumps; then resumed.

In: how many trials. Out: a Count of each kind. Each run is resumed to its end and compared with one never interrupted.
"""

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tiny_run import tiny_config

from nanolm.config import build
from nanolm.runs.run import Run
from nanolm.training.config import TrainConfig
from nanolm.training.train import train
from trials.count import Count
from trials.fork import COMPLAINT, PHASES, child, differences, history, metrics, strike, watched

TRACKED = 20  # every so many-th trial keeps a W&B record, and draws its curves
STARTS = 6.0  # seconds, within which a tracked trial is hit


def config(folder: Path, tracked: bool = False, **fields: Any) -> TrainConfig:
    """Some 45 steps with an evaluation every 7 and a checkpoint every 30 ms."""
    tracking = build("tracking", {"name": "offline" if tracked else "disabled"})
    small = {"model": {"dropout": 0.2}, "epochs": 6, "checkpoint_seconds": 0.03, "tracking": tracking}
    return tiny_config(folder, **(small | fields))


def start_or_resume(folder: Path, run: Path, tracked: bool = False, draw: bool = False, pause: float = 0.0) -> float:
    """What a user does after an interruption: goes on, or starts where nothing had begun; in a child."""
    watched(pause, draw)
    begun = Run.resumable(run)
    typed = config(folder, tracked, resume=str(run) if begun else None)
    return train(typed, folder=None if begun else run)


def kills(count: Count, folder: Path, trials: int, number: signal.Signals, seed: int) -> None:
    """`trials` runs, each hit by the signal at a random moment: half at a random time, half in a random phase."""
    chance, struck = random.Random(seed), Counter[str]()
    whole, log = folder / "out" / "whole", folder / "log.txt"
    child(lambda: start_or_resume(folder, whole), log)  # the caches are filled now
    shutil.rmtree(whole)
    usual = child(lambda: start_or_resume(folder, whole), log)
    assert usual.status == 0, usual.output
    for trial in range(trials):
        run, tracked = folder / "out" / f"run{trial}", trial % TRACKED == 0
        pause = 0.05 if tracked else 0.0
        within = chance.randrange(1, len(PHASES)) if trial % 2 else None
        after, where = chance.uniform(0, STARTS if tracked else usual.seconds), ("", False)

        def hit(pid: int, after: float = after, within: int | None = within) -> None:
            nonlocal where
            where = strike(pid, number, after, within)

        def work(run: Path = run, tracked: bool = tracked, pause: float = pause) -> float:
            return start_or_resume(folder, run, tracked, draw=tracked, pause=pause)

        ended = child(work, log, hit)
        struck[where[0] if where[1] else "after the end"] += 1
        found = [] if ended.status in (0, -number, 128 + number) else [f"ended with {ended.status}: {ended.output}"]
        if ended.status == 128 + number and f"stopped by {number.name}" not in ended.output:
            found.append("stopped without a word")
        if not (Run.resumable(run) and Run.open(run).finished()):
            again = child(work, log)
            if again.status != 0:
                found.append(f"did not resume: {again.output[-500:]}")
        found = found or differences(run, whole)
        if tracked and not found:
            found = recorded(folder / "out" / "wandb", run)
        count.add(f"{number.name} trial {trial} in {where[0]}", found)
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder / "out" / "wandb", ignore_errors=True)
    count.note = ", ".join(f"{n} in {name}" for name, n in struck.most_common())


def recorded(wandb: Path, run: Path) -> list[str]:
    """What is wrong with W&B's record of a run: rows that no log holds, or that two logs hold differently."""
    logs = sorted(wandb.glob("offline-run-*/*.wandb"))
    items = [record["history"]["item"] for record in history(logs)]
    values: dict[int, list[dict[str, Any]]] = {}
    for item in items:
        if "train_loss" in item:
            values.setdefault(int(item["step"]), []).append(item)
    found = []
    for row in metrics(run):
        rows = values.get(int(row["step"]), [])
        if not rows:
            found.append(f"W&B has no step {row['step']:.0f}")
        for key in row.keys() - {"seconds", "tokens_per_s"}:
            if any(one.get(key) != row[key] for one in rows):
                found.append(f"W&B: step {row['step']:.0f} has another {key}")
    return found[:3]


@contextmanager
def mounted(place: Path, *how: str) -> Iterator[None]:
    """Something mounted on `place` meanwhile; needs root."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *how, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disks(count: Count, folder: Path, trials: int, seed: int) -> None:
    """Runs whose disk fills up at a random moment: one line that names a file; with space again they go on."""
    chance, log = random.Random(seed), folder / "log.txt"
    whole = folder / "out" / "whole"
    assert child(lambda: start_or_resume(folder, whole), log).status == 0
    full = 0
    for trial in range(trials):
        place = folder / f"disk{trial}"
        with mounted(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
            shutil.copy(folder / "text.txt", place)
            run, filler = place / "out" / "run", place / "filler"
            free = shutil.disk_usage(place).free - chance.randrange(0, 500) * 1024
            filler.write_bytes(bytes(free))
            ended = child(lambda: start_or_resume(place, run, trial % TRACKED == 0), log)  # noqa: B023
            found = complained(ended.status, ended.output, "No space left")
            full += ended.status != 0
            filler.unlink()
            if not (Run.resumable(run) and Run.open(run).finished()):
                again = child(lambda: start_or_resume(place, run), log)  # noqa: B023
                found += [] if again.status == 0 else [f"did not resume: {again.output[-500:]}"]
            count.add(f"full disk trial {trial}", found or differences(run, whole))
    count.note = f"the disk was full in {full} of them"


def complained(status: int, output: str, reason: str) -> list[str]:
    """Whether a refused training ended with one line that gives the reason."""
    if status == 0:
        return []
    lines = [line for line in output.splitlines() if line.startswith("train.py: ")]
    if status != COMPLAINT or len(lines) != 1 or reason not in lines[0]:
        return [f"no line of complaint (status {status}): {output[-1500:]}"]
    return []


def read_only(count: Count, folder: Path, trials: int, seed: int) -> None:
    """Outputs read-only at the start, or at the resume of a killed run: one line; writable again, it goes on."""
    chance, log = random.Random(seed), folder / "log.txt"
    whole, out = folder / "out" / "whole", folder / "ro"
    assert child(lambda: start_or_resume(folder, whole), log).status == 0
    for trial in range(trials):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        run = out / "run"
        work = partial(start_or_resume, folder, run)
        if trial % 4:  # else nothing has begun yet
            child(work, log, partial(strike, number=signal.SIGKILL, after=chance.uniform(0, 1.5), within=None))
        done = Run.resumable(run) and Run.open(run).finished()
        with mounted(out, "--bind", str(out)):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(out)], check=True)
            ended = child(work, log)
            found = complained(ended.status, ended.output, "is finished" if done else "Read-only file system")
            if ended.status == 0:
                found.append("wrote into a read-only folder")
        if not done:
            again = child(work, log)
            found += [] if again.status == 0 else [f"did not resume: {again.output[-500:]}"]
        count.add(f"read-only trial {trial}", found or differences(run, whole))


def clocks(count: Count, folder: Path, trials: int, seed: int) -> None:
    """The wall clock jumps by up to ten years either way at every look, the steady clocks forward; then a kill."""
    chance, log = random.Random(seed), folder / "log.txt"
    whole = folder / "out" / "whole"
    assert child(lambda: start_or_resume(folder, whole), log).status == 0
    for trial in range(trials):
        run = folder / "out" / f"clock{trial}"

        def work(run: Path = run, seed: int = chance.randrange(2**32)) -> float:
            jump(random.Random(seed))
            return start_or_resume(folder, run)

        after, kill = chance.uniform(0.2, 1.5), signal.SIGKILL
        found = []
        for attempt in range(4):
            ended = child(work, log, (lambda pid: strike(pid, kill, after, None)) if not attempt else lambda pid: None)  # noqa: B023
            if ended.crashed and ended.status != -kill:
                found.append(f"crashed: {ended.output[-800:]}")
            if Run.resumable(run) and Run.open(run).finished():
                break
        count.add(f"clock trial {trial}", found or differences(run, whole))
        shutil.rmtree(run, ignore_errors=True)


def jump(chance: random.Random) -> None:
    """In a child: time.time goes astray by years, the steady clocks leap forward as after a night's sleep."""
    year, now, steady = 3.15e7, time.time, {name: getattr(time, name) for name in ("monotonic", "perf_counter")}
    ahead = dict.fromkeys(steady, 0.0)

    def leaping(name: str) -> float:
        ahead[name] += chance.uniform(0, 36000) * (chance.random() < 0.05)
        return float(steady[name]() + ahead[name])

    time.time = lambda: now() + chance.uniform(-10 * year, 10 * year)
    time.monotonic, time.perf_counter = (lambda: leaping("monotonic")), (lambda: leaping("perf_counter"))
