"""What is settled before the first step and kept for good: how many steps, and whether to compile.

In: a job. Out: a plan, plain data for the run's manifest. A budget in minutes is measured once, on steps that are then
undone; from there on a run is a function of its plan alone.
"""

import itertools
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch

from nanolm.corpus.batches import Batch
from nanolm.training.distributed import backward
from nanolm.training.progress import Progress
from nanolm.training.setup import Job
from nanolm.training.step import AT_ONCE, Meter, take_step

TIMED = 20  # steps
SKIPPED = 4  # steps before them that warm up the machine
SHARE = 0.1  # of the budget that timing may take, even if fewer steps are timed
# seconds of training from which on compiling pays for itself; in fp32 on a CPU it gains nothing
REPAYS = {("cpu", "bf16"): 300.0, ("cuda", "fp32"): 180.0, ("cuda", "bf16"): 180.0}
RATES = {"cpu": (45e9, 90e9), "cuda": (1e13, 6e13)}  # FLOP/s in fp32 and bf16 (per thread of a CPU), for the estimate
LAUNCHING = {"cuda": 6e-3}  # a guess at the seconds that launching a batch's kernels takes at least, not compiled


@dataclass
class Plan:
    """What a manifest holds of it, to check a stranger's."""

    steps: int = 0
    minutes: Optional[float] = None
    compile: bool = False
    corpus: str = ""


def groups(job: Job, step: int) -> Iterator[list[Batch]]:
    """The batches of each optimizer step, from the one that follows `step` others, without end."""
    for epoch in itertools.count(step // job.steps_per_epoch):
        first = step % job.steps_per_epoch if epoch == step // job.steps_per_epoch else 0
        batches = job.batches.epoch(epoch, first * job.config.accumulate)
        while group := list(itertools.islice(batches, job.config.accumulate)):
            yield group


def make_plan(job: Job, old: dict[str, Any] | None = None) -> dict[str, Any]:
    """steps, minutes (the budget they were measured for), compile; compiles the model where it says so.

    `old` is the plan of a run that goes on: its steps count as long as the budget is the same.
    """
    minutes, known = job.config.minutes, old or {}
    seconds = 60 * minutes if minutes else estimated_seconds(job, planned_steps(job))
    wanted = job.config.compile == "on"
    if job.config.compile == "auto":
        wanted = known.get("compile", seconds >= REPAYS.get((job.device.type, job.precision), math.inf))
    compiled = wanted and compile_model(job)
    if not minutes:
        steps = planned_steps(job)
    else:
        steps = known["steps"] if known.get("minutes") == minutes else steps_in(job, minutes)
    return {"steps": steps, "minutes": minutes, "compile": compiled}


def planned_steps(job: Job) -> int:
    """Optimizer steps in a budget of epochs or tokens, at least one."""
    if job.config.tokens is not None:
        return -(-job.config.tokens * job.steps_per_epoch // job.batches.tokens)
    return max(1, round(job.config.epochs * job.steps_per_epoch))


def steps_in(job: Job, minutes: float) -> int:
    """How many steps `minutes` hold, from the speed of a few that are undone afterwards.

    On a CPU the upper quartile of tokens per second: what else the machine does for a moment only makes a step slower.
    On a GPU, which mostly waits for its next kernel, the steps per second; none of them waits for its figures.
    """
    weights = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    progress, meter, times, tokens = Progress(), Meter(), [time.perf_counter()], [0]
    with keep_random(job):
        for group in itertools.islice(groups(job, 0), SKIPPED + TIMED):
            take_step(job, group, progress, SKIPPED + TIMED, meter)
            if len(times) == SKIPPED:
                meter.read(progress)
            times.append(time.perf_counter())
            tokens.append(progress.tokens)
            if len(times) > 2 * SKIPPED + 1 and times[-1] - times[0] > SHARE * 60 * minutes:
                break
        meter.read(progress)
        per_second = (progress.step - SKIPPED) / (time.perf_counter() - times[SKIPPED])
    job.model.load_state_dict(weights)
    job.optimizer = job.config.optim.build(job.model)
    if job.device.type in AT_ONCE:
        speeds = np.diff(tokens)[SKIPPED:] / np.diff(times)[SKIPPED:]
        per_second = float(np.quantile(speeds, 0.75)) * job.steps_per_epoch / job.batches.tokens
    return max(1, round(60 * minutes * per_second))


def estimated_seconds(job: Job, steps: int) -> float:
    """A guess at the time of training from its arithmetic: the same on every start, unlike a measurement."""
    tokens = job.batches.tokens * steps / job.steps_per_epoch
    rate = RATES.get(job.device.type, RATES["cpu"])[job.precision == "bf16"]
    seconds = flops(job) * tokens / (rate * (torch.get_num_threads() if job.device.type == "cpu" else 1))
    return max(seconds, steps * job.config.accumulate * LAUNCHING.get(job.device.type, 0.0))


def flops(job: Job) -> int:
    """Floating point operations to train on one token: 6 per parameter in a product (attention itself not counted)."""
    parts = job.model.summary()
    return 6 * (sum(parts.values()) - (0 if job.config.model.tied else parts["embedding"]))


def compile_model(job: Job) -> bool:
    """Compiles the model and tries it on one batch; says so, and leaves it as it was, where that fails."""
    job.model.compile(dynamic=True)
    try:
        with keep_random(job):
            backward(job, next(groups(job, 0)), alone=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch raises where it finds no working compiler
        job.model._compiled_call_impl = None
        print(f"compile: {' '.join(str(error).split())[:200]}; the model runs as it is, slower", file=sys.stderr)
    job.optimizer.zero_grad()
    return job.model._compiled_call_impl is not None


def keep_random(job: Job) -> AbstractContextManager[None]:
    """Random numbers after it are those that would have come without it."""
    return torch.random.fork_rng([job.device] if job.device.type == "cuda" else [])
