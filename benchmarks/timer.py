"""What the benchmarks share: alternatives timed in turn, and the machine's own limits.

In: named functions that do some work and return how much. Out: a Markdown table of medians, ranges and ratios. The
ways take turns (A B A B ...), so that what slows the machine for a while slows them alike.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from nanolm.hardware import cpu_has, pick_device
from nanolm.model.fast.int8 import Int8Linear

MOVIES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "movie_extracts.csv.gz"


def compare(ways: dict[str, Callable[[], float]], unit: str, repeats: int = 5) -> dict[str, float]:
    """Prints amount per second of each way (per unit), and its ratio to the first; returns the medians.

    A way's first call warms it up and doesn't count.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begun, amount = time.perf_counter(), way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                rates[name].append(amount / (time.perf_counter() - begun))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    first = next(iter(medians.values()))
    print(f"\n| | {unit} | from - to | ratio |\n|---|---|---|---|")
    for name, values in rates.items():
        low, high, ratio = min(values), max(values), medians[name] / first
        print(f"| {name} | {medians[name]:,.4g} | {low:,.4g} - {high:,.4g} | {ratio:.2f} |", flush=True)
    return medians


def seconds(ways: dict[str, Callable[[], float]], repeats: int = 5) -> None:
    """Prints a table of seconds that the ways, in turn, tell themselves: the median, and the range."""
    turns = [[way() for way in ways.values()] for _ in range(repeats)]
    print("\n| | seconds | from - to |\n|---|---|---|")
    for name, times in zip(ways, zip(*turns, strict=True), strict=True):
        print(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} - {max(times):.2f} |", flush=True)


def machine(title: str) -> dict[str, float]:
    """Prints the heading and what the machine has; returns its matrix rates in GFLOP/s (4096 x 512 by 512 x 2048)."""
    device = pick_device("auto")
    x, weight = torch.randn(4096, 512, device=device), torch.randn(2048, 512, device=device)
    low, int8, rows = (x.bfloat16(), weight.bfloat16()), Int8Linear.of(torch.nn.Linear(512, 2048)), x.cpu()
    work, turns = 2 * x.numel() * len(weight) / 1e9, 200 if device.type == "cuda" else 1  # a GPU's takes microseconds

    def times(product: Callable[[], torch.Tensor]) -> Callable[[], float]:
        return lambda: work * sum(bool(product().shape) for _ in range(turns))

    model = next((line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")), "")
    print(f"\n## {title}\n\n{date.today()}, {model or platform.machine()}, {os.cpu_count()} cores,", end=" ")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, ", end="")
    print(", ".join(f"{kind} instructions: {'yes' if cpu_has(kind) else 'no'}" for kind in ("bf16", "int8")))
    ways = {"fp32 matrix product": times(lambda: x @ weight.T), "int8 linear, CPU": times(lambda: int8(rows))}
    if cpu_has("bf16") or device.type == "cuda":
        ways["bf16 matrix product"] = times(lambda: low[0] @ low[1].T)
    with torch.inference_mode():
        return compare(ways, "GFLOP/s", 7)


def cpuinfo() -> list[str]:
    """The lines of /proc/cpuinfo; none where there is no such file."""
    path = Path("/proc/cpuinfo")
    return path.read_text(errors="replace").splitlines() if path.exists() else []
