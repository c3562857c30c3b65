"""Everything that wants a GPU, run once by somebody who has one: checks, then tables, in at most eight minutes.

python benchmarks/gpu.py (`make bench-gpu`). --dry tries the same on the CPU with tiny shapes, to see that it runs; its
figures mean nothing. Needs no network. Exit status 1 where a check failed.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from nanolm.config import build, fill
from nanolm.corpus.batches import Batch
from nanolm.data.tinyplots import TinyPlots
from nanolm.errors import ConfigError
from nanolm.generator import load
from nanolm.model.config import ModelConfig
from nanolm.runs.run import Run
from nanolm.training.config import TrainConfig
from nanolm.training.plan import flops_per_token
from nanolm.training.setup import Setup, set_up
from nanolm.training.step import gradient
from nanolm.training.train import train
from train import ROOT, config, ours, plain, upcoming

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
        return replace(
            config(self.place), data=plots, model=model, device=self.device, samples=0, compile="off", **fields
        )

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


def speed(setup: Setup, way: Callable[[], float], steps: int) -> float:
    """Real tokens per second of `way`."""
    for _ in range(2):
        way()
    waited(setup.device)
    begun = time.perf_counter()
    tokens = sum(way() for _ in range(steps))
    waited(setup.device)
    return tokens / (time.perf_counter() - begun)


def syncs(setup: Setup, batches: Iterator[Batch]) -> int:
    """How often the host waits for the device in the gradient of a step."""
    if setup.device.type != "cuda":
        return 0
    batch = next(batches)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gradient(setup, [batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")
        setup.optimizer.zero_grad()
    return sum("synchroniz" in str(one.message) for one in caught)


def peak_rate(bench: Bench) -> float:
    """FLOP/s of a large bf16 matrix product: what the device can do."""
    size = 256 if bench.dry else 8192
    x = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    for turn in range(2):
        waited(x.device)
        begun = time.perf_counter()
        for _ in range(10):
            x @ x
        waited(x.device)
        if turn:
            return 20 * size**3 / (time.perf_counter() - begun)
    raise AssertionError


def training(bench: Bench) -> None:
    """Tokens per second and model FLOPs utilisation of each shape and way, beside a plain loop over transformers."""
    peak = peak_rate(bench)
    print(f"\nTraining in bf16, AdamW; the device multiplies {peak / 1e12:,.1f} TFLOP/s\n")
    print(
        "| shape | way | real tokens/s | of the device | MB at most | shapes | syncs |\n|---|---|---|---|---|---|---|"
    )
    for shape in bench.shapes:
        for way in ("eager", "compiled", "CUDA graphs", "transformers"):
            if bench.dry and way in ("compiled", "CUDA graphs"):
                continue
            setup = quietly(lambda shape=shape: set_up(bench.config(shape, precision="bf16")))  # type: ignore[misc]
            batches = upcoming(setup)
            if way == "compiled":
                setup.model.compile(dynamic=True)
            elif way == "CUDA graphs":
                setup.model.compile(mode="reduce-overhead", dynamic=False)
            if not bench.dry:
                torch.cuda.reset_peak_memory_stats()
            try:
                step = plain(setup, True, True) if way == "transformers" else ours(setup, batches)
                rate = speed(setup, step, bench.steps)
            except (RuntimeError, torch.OutOfMemoryError) as error:
                print(f"| {shape} | {way} | {' '.join(str(error).split())[:80]} | | | | |", flush=True)
                continue
            memory = 0.0 if bench.dry else torch.cuda.max_memory_allocated() / 1e6
            seen = len({batch.ids.shape for batch, _ in zip(upcoming(setup), range(200), strict=False)})
            waits = syncs(setup, batches) if way == "eager" else 0
            share = flops_per_token(setup) * rate / peak
            print(f"| {shape} | {way} | {rate:,.0f} | {share:.1%} | {memory:,.0f} | {seen} | {waits} |", flush=True)


def writing(bench: Bench) -> None:
    """Tokens per second for few and many prompts."""
    writer = load(bench.place / "checked", device=bench.device)
    print("\nWriting 60 tokens after each prompt\n\n| prompts | tokens/s |\n|---|---|")
    for prompts in (1, 4) if bench.dry else (1, 64, 512):
        texts = ["the"] * prompts
        writer.generate(texts, "sample", seed=1, max_new_tokens=4)
        begun = time.perf_counter()
        found = writer.complete(texts, build("decode", {"name": "sample", "max_new_tokens": 60}), 1)
        tokens = sum(len(one.ids) for group in found for one in group)
        print(f"| {prompts} | {tokens / (time.perf_counter() - begun):,.0f} |", flush=True)


def sweep(bench: Bench) -> None:
    """Eight jobs on one device, in turn and side by side."""
    jobs = 2 if bench.dry else 8
    words = ["-m", "model=tiny", f"seed=range(1,{jobs + 1})", "tokens=2000", "samples=0", "tracking=disabled"]
    words += [f"device={bench.device}", f"data.plots={200 if bench.dry else 5000}"]
    words += ["model.dims=16", "model.heads=2"] if bench.dry else ["tokens=500000"]
    print(f"\nA sweep of {jobs} jobs\n\n| launcher | seconds |\n|---|---|")
    for launcher in ("basic", "joblib"):
        begun = time.perf_counter()
        done = door("train.py", *words, f"hydra/launcher={launcher}", f"outputs={bench.place / launcher}")
        print(f"| {launcher} | {time.perf_counter() - begun:.0f}{'' if done else ' (failed)'} |", flush=True)


def main(words: list[str]) -> int:
    dry = "--dry" in words
    if not dry and not torch.cuda.is_available():
        print("no GPU that torch can use; --dry tries everything on the CPU with tiny shapes", file=sys.stderr)
        return 2
    name = "the CPU, dry" if dry else torch.cuda.get_device_name()
    print(f"## On {name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(dry, Path(place))
        checks(bench)
        training(bench)
        writing(bench)
        sweep(bench)
    print(f"\n{len(bench.failed)} checks failed{': ' if bench.failed else ''}{', '.join(bench.failed)}")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
