"""A process of parallel.py: trains one step whenever the first of its ranks reads a line, and tells tokens and seconds.

python benchmarks/one_step.py adamw|muon OUTPUTS, alone or by torchrun: films (or tinyplots), dims 512, nblocks 3,
batches of 64, fp32, one thread.
"""

import sys
import time

import torch.distributed as dist
from timer import MOVIES

from nanolm.config import build, fill
from nanolm.decode.greedy import Greedy
from nanolm.model.config import ModelConfig
from nanolm.training.config import TrainConfig
from nanolm.training.distributed import from_first, process_group, rank, world_size
from nanolm.training.plan import step_batches
from nanolm.training.progress import Progress
from nanolm.training.setup import set_up
from nanolm.training.step import Meter, take_step

STEPS = 1000  # of the plan, which no run comes to the end of
SHAPE = {"dims": 512, "heads": 8, "nblocks": 3, "dropout": 0.0, "spelling": 0}
FILMS = {"name": "movie_plots", "path": str(MOVIES), "maxlen": 128}


def config(optim: str, outputs: str) -> TrainConfig:
    """Of the training."""
    return TrainConfig(
        data=build("data", FILMS if MOVIES.exists() else {"name": "tinyplots", "plots": 20_000}),
        tokenizer=build("tokenizer", {"name": "word", "minfreq": 12 if MOVIES.exists() else 1}),
        model=fill(ModelConfig, SHAPE, "model"),
        optim=build("optim", {"name": optim}),
        decode=Greedy(),
        tracking=build("tracking", {"name": "disabled"}),
        batch_size=64,
        precision="fp32",
        threads=1,
        outputs=outputs,
    )


def main() -> None:
    optim, outputs = sys.argv[1:]
    output = sys.__stdout__  # of the first rank; the others are silent
    assert output
    with process_group("cpu"):
        setup, progress, meter = set_up(config(optim, outputs)), Progress(), Meter()
        upcoming = step_batches(setup, 0)
        while from_first(sys.stdin.readline() if rank() == 0 else ""):
            batches = next(upcoming)
            if world_size() > 1:
                dist.barrier()
            begun = time.perf_counter()
            take_step(setup, batches, progress, STEPS, meter)
            if world_size() > 1:
                dist.barrier()
            if rank() == 0:
                print(sum(batch.tokens for batch in batches), time.perf_counter() - begun, file=output, flush=True)


if __name__ == "__main__":
    main()
