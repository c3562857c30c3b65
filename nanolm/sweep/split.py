"""How many jobs of a sweep run at once, with how many threads each: what is fastest here, measured once and kept.

In: the config of the sweep's largest job. Out: a Split. A nano model doesn't fill a machine: two at a time, a thread
each, are faster than one with two threads. On GPUs each job gets one in turn.
"""

import multiprocessing
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanolm.config import plain
from nanolm.files import fingerprint, make_folder, read_json, write_json
from nanolm.sweep import children
from nanolm.text import counted
from nanolm.workers import CORES

SHAPE = ("data", "tokenizer", "model", "batch_size", "accumulate", "precision", "device")  # what speed depends on
ROOM = 1.25  # a job may need so many times the memory of its first steps
SHARE = 0.9  # of the free memory that all may take


@dataclass(frozen=True)
class Split:
    """How a machine is shared out: `threads` None is torch's choice, `gpus` 0 a CPU."""

    jobs: int
    threads: int | None = None
    gpus: int = 0


@dataclass
class Trial:
    """A split that was tried: what all its jobs together came to, and the memory of one."""

    split: Split
    tokens_per_s: float
    memory_mb: float


def choose_split(config: Any, jobs: int, measure: Callable[..., None], cache: Path) -> Split:
    """The fastest split for `jobs` jobs that are at most as large as `config`; says what it is."""
    path = make_folder(cache / "side_by_side") / f"{fingerprint(split_key(config, jobs))}.json"
    if path.exists():
        known = read_json(path)
        split, measured = Split(**known["split"]), "measured before"
    else:
        print("measuring how many jobs at once are fastest here", flush=True)
        trials = try_splits(config, jobs, measure)
        if not trials:  # the job says itself why it can't be trained
            return Split(1)
        best = max(trials, key=lambda trial: trial.tokens_per_s)
        split = fit_memory(best, free_memory_mb())
        measured = ", ".join(f"{t.split.jobs} x {t.split.threads}: {t.tokens_per_s:,.0f} tokens/s" for t in trials)
        write_json(path, {"split": asdict(split), "measured": measured})
    print(f"{describe(split)} ({measured}); hydra.launcher.n_jobs=1: one after the other", flush=True)
    return split


def describe(split: Split) -> str:
    """`2 jobs at once, 1 thread each`."""
    at_once = f"{split.jobs} jobs at once" if split.jobs > 1 else "one job at a time"
    on = f", on {split.gpus} GPUs in turn" if split.gpus > 1 else ""
    threads = counted(split.threads, "thread") if split.threads else "all threads"
    return f"{at_once}, {threads} each{on}"


def split_key(config: Any, jobs: int) -> dict[str, Any]:
    """What the fastest split depends on: the machine, how many jobs there are for it, and their shape."""
    machine = [platform.node(), platform.processor(), platform.machine(), CORES]
    machine.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    values = plain(config)
    return {"machine": machine, "jobs": min(jobs, CORES), "shape": {key: values[key] for key in SHAPE}}


def try_splits(config: Any, jobs: int, measure: Callable[..., None]) -> list[Trial]:
    """One thread each on as many cores as there are jobs, then fewer with more, as long as that is faster."""
    trials: list[Trial] = []
    for split in candidates(jobs):
        trial = try_split(config, split, measure)
        if trial is None:
            break
        trials.append(trial)
        if trial.split.gpus or trial.tokens_per_s < max(one.tokens_per_s for one in trials):
            break
    return trials


def candidates(jobs: int) -> list[Split]:
    """Splits of the cores, the most jobs first."""
    found, threads = [], 1
    while threads <= CORES:
        split = Split(min(jobs, CORES // threads), threads)
        if threads * 2 > CORES or split.jobs * threads * 2 > CORES:  # else more threads take no core from a job
            found.append(split)
        threads *= 2
    return found or [Split(1, CORES)]


def try_split(config: Any, split: Split, measure: Callable[..., None]) -> Trial | None:
    """Trains so many at once for a moment; None where that can't be."""
    barrier, pipes, started = children.barrier(split.jobs), [], []
    for _ in range(split.jobs):
        receiving, sending = multiprocessing.Pipe(duplex=False)
        started.append(children.start_plain(measure, (config, split.threads, barrier, sending), daemon=True))
        sending.close()
        pipes.append(receiving)
    try:
        speeds = [pipe.recv() for pipe in pipes]
    except EOFError:
        for child in started:
            child.terminate()
        return None
    for child in started:
        child.join()
    rate, memory = sum(speed["tokens_per_s"] for speed in speeds), max(speed["memory_mb"] for speed in speeds)
    if gpus := speeds[0]["gpus"]:  # all of them were on the first one; the other GPUs take as many
        split = Split(split.jobs * gpus, split.threads, gpus)
    return Trial(split, rate, memory)


def fit_memory(trial: Trial, free_mb: float) -> Split:
    """The split with no more jobs than the memory of a CPU holds."""
    split = trial.split
    if split.gpus:
        return split
    most = max(1, int(SHARE * free_mb / (ROOM * trial.memory_mb)))
    if most >= split.jobs:
        return split
    print(f"a job takes {trial.memory_mb:,.0f} MB, and {free_mb:,.0f} MB are free: {most} at once", flush=True)
    return Split(most, max(1, CORES // most))


def free_memory_mb() -> float:
    """Memory that new processes can have."""
    import psutil

    return float(psutil.virtual_memory().available) / 1e6
