"""How fast a training runs while others run beside it: what a sweep measures before it chooses how many at once.

In: a TrainConfig, and a barrier at which the others wait. Out: tokens per second and memory. Writes nothing but caches.
"""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from nanolm.errors import NanolmError
from nanolm.hardware import peak_memory
from nanolm.training.config import TrainConfig
from nanolm.training.plan import step_batches
from nanolm.training.progress import Progress
from nanolm.training.setup import set_up
from nanolm.training.step import Meter, take_step

WARM_UP = 2  # steps
SECONDS = 0.5  # of steps that are timed, and at least so many:
STEPS = 3
PATIENCE = 300.0  # seconds to wait for the others


@dataclass
class Speed:
    """What one of several trainings side by side came to."""

    tokens_per_s: float
    memory_mb: float  # at its peak
    gpus: int  # that this machine has; 0 where it trained on a CPU


def measure_speed(config: TrainConfig, threads: int, barrier: Any, results: Any) -> None:
    """Trains for a moment beside the others at `barrier`; sends a Speed as a dict through the pipe `results`.

    A config that can't be trained sends nothing: its job says why.
    """
    try:
        setup = set_up(replace(config, threads=threads))
    except NanolmError:
        results.close()
        return
    progress, meter, batches = Progress(), Meter(), step_batches(setup, 0)
    for _ in range(WARM_UP):
        take_step(setup, next(batches), progress, WARM_UP, meter)
    meter.read(progress)
    barrier.wait(PATIENCE)
    before, begun = progress.tokens, time.perf_counter()
    while time.perf_counter() < begun + SECONDS or progress.step < WARM_UP + STEPS:
        take_step(setup, next(batches), progress, 10**9, meter)
    meter.read(progress)
    rate = (progress.tokens - before) / (time.perf_counter() - begun)
    gpus = torch.cuda.device_count() if setup.device.type == "cuda" else 0
    results.send(asdict(Speed(rate, peak_memory(setup.device), gpus)))
