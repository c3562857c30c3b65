"""Checks that want a GPU: each verb and each way on the device, by what must come out. `gpu.py` runs them.

In: a Bench, with its device, folder and shapes. Out: a line for each check; those that failed are kept in the Bench.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from nanolm.config import build, fill
from nanolm.data.tinyplots import TinyPlots
from nanolm.errors import ConfigError
from nanolm.generator import load
from nanolm.model.config import ModelConfig
from nanolm.runs.run import Run
from nanolm.training.config import TrainConfig
from nanolm.training.train import train
from train import ROOT, config

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"dims": 128, "heads": 4, "nblocks": 5},
    "small": {"dims": 256, "heads": 4, "nblocks": 6},
    "base": {"dims": 512, "heads": 8, "nblocks": 6},
    "124M": {"dims": 768, "heads": 12, "nblocks": 12, "context": 1024},
}
DRY: dict[str, dict[str, Any]] = {"tiny": {"dims": 16, "heads": 2, "nblocks": 1}}


def waited(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def quietly(work: Callable[[], Any]) -> Any:
    """What `work` returns, without what it prints."""
    with redirect_stdout(StringIO()):
        return work()


class Bench:
    """What the checks and the tables share: a device, a folder, shapes and how long to measure."""

    def __init__(self, dry: bool, place: Path) -> None:
        self.dry, self.place = dry, place
        self.device = "cpu" if dry else "cuda"
        self.shapes, self.steps = (DRY, 2) if dry else (SHAPES, 20)
        self.failed: list[str] = []

    def config(self, shape: str, **fields: Any) -> TrainConfig:
        """A training on tinyplots."""
        plots = TinyPlots(plots=200 if self.dry else 50_000)
        model = fill(ModelConfig, {"name": shape, **self.shapes[shape]}, "model")
        fields = dict[str, Any](device=self.device, samples=0, compile="off") | fields
        return replace(config(self.place), data=plots, model=model, **fields)

    def check(self, name: str, work: Callable[[], bool]) -> None:
        """Prints whether `work` gave what it should."""
        begun = time.perf_counter()
        try:
            found = "ok" if quietly(work) else "WRONG"
        except Exception as error:  # the other checks are still to be made
            found = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if found != "ok":
            self.failed.append(name)
        print(f"{name:45} {found} ({time.perf_counter() - begun:.1f} s)", flush=True)


def checks(bench: Bench) -> None:
    """Each verb and each way on the device, by what must come out."""
    shape, run = next(iter(bench.shapes)), bench.place / "checked"
    short = {"tokens": 3000 if bench.dry else 300_000, "batch_size": 8}

    def learns(**fields: Any) -> bool:
        folder = Path(tempfile.mkdtemp(dir=bench.place)) / "run"
        train(bench.config(shape, **short | fields), folder=folder)
        return Run.open(folder).finished()

    for optim in ("adam", "adamw", "muon"):
        for precision in ("fp32", "bf16"):
            how = {"optim": build("optim", {"name": optim}), "precision": precision}
            bench.check(f"train, {optim}, {precision}", lambda how=how: learns(**how))  # type: ignore[misc]
    bench.check("train, ema, accumulate=2", lambda: learns(ema=0.9, accumulate=2))
    if not bench.dry:
        bench.check("train, compile=on", lambda: learns(compile="on"))

    def resumes() -> bool:
        train(bench.config(shape, **short), folder=run)
        steps = Run.open(run).status()["step"]
        more = bench.config(shape, **short | {"tokens": 2 * short["tokens"]}, resume=str(run))
        train(more, ["tokens=x"])
        return bool(Run.open(run).status()["step"] >= 2 * steps - 1)

    def writes(decode: str, **fields: Any) -> str:
        return str(load(run, device=bench.device, precision="fp32").generate("the", decode, seed=1, **fields))

    def same_beams() -> bool:
        here = load(run, device="cpu", precision="fp32").generate("the", "beam", num_beams=4, max_new_tokens=20)
        return writes("beam", num_beams=4, max_new_tokens=20) == here

    def refused() -> bool:
        if bench.dry:
            return True
        try:
            load(run, device=bench.device, quantize="int8")
        except ConfigError as error:
            return "is for the CPU" in str(error)
        return False

    bench.check("train.py resume=", resumes)
    bench.check("generate, sampling", lambda: len(writes("sample", top_k=20, max_new_tokens=20)) > 0)
    bench.check("generate, beams equal to the CPU's in fp32", same_beams)
    bench.check("generate, int8 is refused in words", refused)
    for verb in (["evaluate.py"], ["attend.py", "prompt=the"], ["export.py"]):
        words = [f"run={run}", f"outputs={bench.place}"] + (
            [f"device={bench.device}"] if verb[0] != "export.py" else []
        )
        bench.check(" ".join(verb), lambda verb=verb, words=words: door(*verb, *words))  # type: ignore[misc]


def door(*words: str) -> bool:
    """Whether a command ends well."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False).returncode == 0
