"""Text of growing size through tokenize.py and a short training: seconds, and memory beyond what a file of 1 MB takes.

Sizes in MB come as arguments; without them 10 and 100. Prints a table. Linux only: memory is read from /proc.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from nanolm.data.tinyplots import plot

ROOT = Path(__file__).resolve().parent.parent
PLOTS = 20_000  # whose halves are put together anew
HELD_OUT = 200  # documents of val and of test: they are scored, and that takes longer than reading them
ALLOWED, PER_DOCUMENT = 200e6, 128  # bytes
TRAIN = ["model=tiny", "tokens=20000", "threads=1", "compile=off", "tracking=disabled", "samples=0"]


def write(path: Path, size: int) -> int:
    """`size` bytes of documents, one a line: the first half of one plot and the last of another; how many they are."""
    plots = [plot(0, i).split(". ") for i in range(min(PLOTS, size // 400))]
    heads = [". ".join(parts[: len(parts) // 2]) for parts in plots]
    tails = [". ".join(parts[len(parts) // 2 :]) for parts in plots]
    documents = 0
    with open(path, "w") as file:
        for shift in count():
            for head, tail in zip(heads, tails[shift:] + tails[:shift], strict=True):
                size -= file.write(f"{head}. {tail}\n")
                documents += 1
                if size <= 0:
                    return documents
    raise AssertionError


def anonymous(process: int) -> int:
    """Bytes of memory of a process and those that it has started that no file stands behind."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = sum(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return own + sum(map(anonymous, map(int, children)))


def door(*words: str) -> tuple[float, float, int]:
    """Seconds, seconds of all cores' work, and the peak of `anonymous`, of `python words`."""
    begun, peak, ended = time.perf_counter(), 0, 0
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not ended:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.2)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{' '.join(words)}: failed")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak


def main() -> None:
    sizes = [1, *map(int, sys.argv[1:] or ["10", "100"])]
    print("\n| | MB | documents | seconds | CPU seconds | anonymous MB | beyond 1 MB's | allowed |")
    print("|---|---|---|---|---|---|---|---|")
    first: dict[str, int] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            documents = write(path := Path(place, "text.txt"), size * 10**6)
            share = HELD_OUT / documents
            data = ["data=files", f"data.path={path}", f"data.val={share}", f"data.test={share}", f"outputs={place}"]
            for name, words in {"tokenize.py": data, "train.py": [*data, *TRAIN]}.items():
                seconds, cpu, peak = door(name, *words)
                beyond = (peak - first.setdefault(name, peak)) / 1e6
                figures = f"{seconds:,.1f} | {cpu:,.1f} | {peak / 1e6:,.0f} | {beyond:,.0f}"
                allowed = (ALLOWED + PER_DOCUMENT * documents) / 1e6
                print(f"| {name} | {size:,} | {documents:,} | {figures} | {allowed:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
