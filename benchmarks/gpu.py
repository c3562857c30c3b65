"""Everything that wants a GPU, run once by somebody who has one: checks, then tables, in at most eight minutes.

python benchmarks/gpu.py (`make bench-gpu`). --dry tries the same on the CPU with tiny shapes, to see that it runs; its
figures mean nothing. Needs no network. Exit status 1 where a check failed.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from gpu_checks import Bench, checks, door, quietly, waited

from nanolm.config import build
from nanolm.corpus.batches import Batch
from nanolm.generator import load
from nanolm.training.plan import flops_per_token
from nanolm.training.setup import Setup, set_up
from nanolm.training.step import gradient
from train import ours, plain, upcoming


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
