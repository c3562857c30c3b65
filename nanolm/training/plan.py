"""What is settled before the first step: how many steps, and whether to compile.

In: a Setup. Out: a plan, plain data for the run's manifest. A budget in minutes is measured on steps that are then
undone, and again while it trains (pace.py). A run is a function of its plan alone.
"""

import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import torch

from nanolm.corpus.batches import Batch
from nanolm.training.distributed import from_first, largest, world_size
from nanolm.training.output import announced
from nanolm.training.progress import Progress
from nanolm.training.setup import Setup
from nanolm.training.step import SYNCHRONOUS, Meter, forward_backward, take_step

TIMED = 20  # steps
SKIPPED = 4  # steps before them that warm up the machine
TELLING = 20  # steps; before them high learning rates look worse than they are, and no rung comes (docs/results.md, 8)
SHARE = 0.1  # of the budget that timing may take, even if fewer steps are timed
# seconds of training from which on compiling pays for itself; in fp32 on a CPU it gains nothing
REPAYS = {("cpu", "bf16"): 150.0, ("cuda", "fp32"): 180.0, ("cuda", "bf16"): 180.0}
RATES = {  # FLOP/s (per thread of a CPU), for the estimate
    "cpu": {"fp32": 45e9, "bf16": 90e9},
    "cuda": {"fp32": 1e13, "bf16": 6e13},
}
LAUNCHING = {"cuda": 6e-3}  # a guess at the seconds that launching a batch's kernels takes at least, not compiled


@dataclass
class Plan:
    """What a manifest holds of it, to check a stranger's."""

    steps: int = 0
    minutes: Optional[float] = None
    compile: bool = False
    corpus: str = ""
    changes: list[list[int]] = field(default_factory=list)  # after how many steps, how many in all: see pace.py


def step_batches(setup: Setup, step: int) -> Iterator[list[Batch]]:
    """The batches of each optimizer step, from the one that follows `step` others, without end."""
    for epoch in itertools.count(step // setup.steps_per_epoch):
        first = step % setup.steps_per_epoch if epoch == step // setup.steps_per_epoch else 0
        batches = setup.batches.epoch(epoch, first * setup.config.accumulate)
        while group := list(itertools.islice(batches, setup.config.accumulate)):
            yield group


def make_plan(setup: Setup, old: dict[str, Any] | None = None) -> dict[str, Any]:
    """steps, minutes (the budget they were measured for), changes, compile; compiles the model where it says so.

    `old` is the plan of a run that goes on: its steps count as long as the budget is the same.
    """
    minutes, known = setup.config.minutes, old or {}
    seconds = 60 * minutes if minutes else estimated_seconds(setup, planned_steps(setup))
    wanted = setup.config.compile == "on"
    if setup.config.compile == "auto":
        wanted = known.get("compile", seconds >= REPAYS.get((setup.device.type, setup.precision), math.inf))
    compiled = wanted and compile_model(setup)
    steps, changes = planned_steps(setup) if not minutes else 0, []
    if minutes and known.get("minutes") == minutes:
        steps, changes = known["steps"], known["changes"]
    elif minutes:
        steps = measured_steps(setup, minutes)
    return from_first({"steps": steps, "minutes": minutes, "changes": changes, "compile": compiled})


def steps_at(plan: Mapping[str, Any], step: int) -> int:
    """The steps in all, as planned once `step` of them are done."""
    return next((steps for since, steps in reversed(plan["changes"]) if since <= step), plan["steps"])


def rung_step(until: float, steps: int) -> int:
    """The step of a plan at which a share `until` of it is done, but not before losses tell who will win."""
    return min(steps, max(1, min(TELLING, steps // 2), math.ceil(until * steps - 1e-9)))


def planned_steps(setup: Setup) -> int:
    """Optimizer steps in a budget of epochs or tokens, at least one."""
    if setup.config.tokens is not None:
        return -(-setup.config.tokens * setup.steps_per_epoch // setup.batches.tokens)
    return max(1, round(setup.config.epochs * setup.steps_per_epoch))


def measured_steps(setup: Setup, minutes: float) -> int:
    """How many steps `minutes` hold, from the speed of a few that are undone afterwards.

    On a CPU the median of tokens per second: a moment in which the machine does something else doesn't count.
    On a GPU, which mostly waits for its next kernel, the steps per second; none of them waits for its figures.
    """
    weights = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    progress, meter, times, tokens = Progress(), Meter(), [time.perf_counter()], [0]
    with keep_random(setup), announced(f"measuring how many steps fit into minutes={minutes:g}"):
        for group in itertools.islice(step_batches(setup, 0), SKIPPED + TIMED):
            take_step(setup, group, progress, SKIPPED + TIMED, meter)
            if len(times) == SKIPPED:
                meter.read(progress)
            times.append(time.perf_counter())
            tokens.append(progress.tokens)
            used_up = len(times) > 2 * SKIPPED + 1 and times[-1] - times[0] > SHARE * 60 * minutes
            if largest(int(used_up)):
                break
        meter.read(progress)
        per_second = (progress.step - SKIPPED) / (time.perf_counter() - times[SKIPPED])
    setup.model.load_state_dict(weights)
    setup.optimizer.reset()
    if setup.device.type in SYNCHRONOUS:
        speeds = np.diff(tokens)[SKIPPED:] / np.diff(times)[SKIPPED:]
        per_second = float(np.median(speeds)) * setup.steps_per_epoch / setup.batches.tokens
    return max(1, round(60 * minutes * per_second))


def estimated_seconds(setup: Setup, steps: int) -> float:
    """A guess at the time of training from its arithmetic: the same on every start, unlike a measurement."""
    tokens = setup.batches.tokens * steps / setup.steps_per_epoch
    rate = RATES.get(setup.device.type, RATES["cpu"])[setup.precision]
    if setup.device.type == "cpu":
        rate *= torch.get_num_threads()
    seconds = flops_per_token(setup) * tokens / (rate * world_size())
    return max(seconds, steps * setup.config.accumulate * LAUNCHING.get(setup.device.type, 0.0))


def flops_per_token(setup: Setup) -> int:
    """Floating point operations to train on one token: 6 per parameter in a product (attention itself not counted)."""
    parts = setup.model.summary()
    multiplied = sum(parts.values()) - parts["tables"]
    if not setup.config.model.tied:  # then an embedding is only looked up
        multiplied -= parts["embedding"]
    return 6 * multiplied


def compile_model(setup: Setup) -> bool:
    """Compiles the model and tries it on one batch; says so, and leaves it as it was, where that fails.

    On a CPU its blocks, which share one piece of code: as fast as the whole, for half of the wait.
    """
    parts = list(setup.model.blocks) if setup.device.type == "cpu" else [setup.model]
    for part in parts:
        part.compile(dynamic=True)
    try:
        with keep_random(setup), announced("compiling the model, which may take some minutes"):
            forward_backward(setup, next(step_batches(setup, 0)))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch raises where it finds no working compiler
        for part in parts:
            part._compiled_call_impl = None
        print(f"compile: {' '.join(str(error).split())[:200]}; the model runs as it is, slower", file=sys.stderr)
    setup.optimizer.zero_grad()
    return parts[0]._compiled_call_impl is not None


def keep_random(setup: Setup) -> AbstractContextManager[None]:
    """Random numbers after it are those that would have come without it."""
    kind = setup.device.type
    return torch.random.fork_rng([]) if kind == "cpu" else torch.random.fork_rng([setup.device], device_type=kind)
