"""A training small enough for a test: 60 short documents, 16 dims, 2 blocks. Used by the tests of training and runs."""

import csv
import random
import socket
from pathlib import Path
from typing import Any

from nanolm.config import build, fill
from nanolm.model.config import ModelConfig
from nanolm.training.config import TrainConfig

NAMES = ("ada", "bert", "cleo", "dan", "eve", "fred", "gus", "hal")
VERBS = ("finds", "loses", "paints", "fears", "sells", "eats")
THINGS = ("a ship", "the old map", "one red apple", "nothing at all", "her brother", "a quiet town by the sea")


def write_documents(path: Path, count: int = 60, seed: int = 0) -> Path:
    """One plot a line, of different lengths, all different."""
    chance = random.Random(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        parts = [" ".join(map(chance.choice, (NAMES, VERBS, THINGS))) for _ in range(chance.randint(1, 4))]
        lines[" . ".join(parts)] = None
    path.write_text("\n".join(lines) + "\n")
    return path


def tiny_config(
    folder: Path,
    model: dict[str, Any] | None = None,
    optim: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **fields: Any,
) -> TrainConfig:
    """A config on `folder`/text.txt, run folders under `folder`/out; 3 epochs of 7 steps or so."""
    path = folder / "text.txt"
    if not path.exists():
        write_documents(path)
    defaults: dict[str, Any] = {
        "data": build("data", {"name": "files", "path": str(path), "val": 0.15, "test": 0.15} | (data or {})),
        "tokenizer": build("tokenizer", {"name": "word", "minfreq": 2}),
        "model": fill(ModelConfig, {"dims": 16, "heads": 2, "nblocks": 2, "name": "tiny"} | (model or {}), "model"),
        "optim": build("optim", {"name": "adamw", "lr": 1e-2} | (optim or {})),
        "decode": build("decode", {"name": "sample", "max_new_tokens": 8}),
        "tracking": build("tracking", {"name": "disabled"}),
        "outputs": str(folder / "out"),
    }
    small = {"epochs": 3, "batch_size": 6, "log_every": 2, "threads": 1, "samples": 0}
    return TrainConfig(**(defaults | small | fields))


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the columns of time."""
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_s")} for row in csv.DictReader(file)]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
