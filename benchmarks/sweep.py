"""A sweep: what a job costs beyond its own training and evaluation, the first and those after it; and what is gained
by jobs side by side, as by default, over one after the other.

Prints tables of seconds. Corpus, tokenizer and imports are shared, so only the first job pays for them.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timer import machine

ROOT = Path(__file__).resolve().parent.parent
JOBS = 5
WORDS = ["-m", "model=tiny", "data.plots=1000", "tokens=5000", "samples=0", "tracking=disabled"]


SIDE_BY_SIDE = ["-m", "model=tiny", "data.plots=1000", "tokens=40000", "samples=0", "tracking=disabled"]


def run(words: list[str], place: str) -> float:
    """Runs a sweep into `place`; returns its seconds."""
    begun = time.perf_counter()
    command = [sys.executable, "train.py", *words, f"outputs={place}"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def overhead() -> None:
    """The table of each job's seconds."""
    with tempfile.TemporaryDirectory() as place:
        begun = time.time()
        run([*WORDS, "hydra.launcher.n_jobs=1", "seed=" + ",".join(map(str, range(1, JOBS + 1)))], place)
        done = [(path.stat().st_mtime, json.loads(path.read_text())) for path in Path(place).rglob("*/status.json")]
    done.sort(key=lambda pair: pair[0])
    ends = [begun, *(end for end, _ in done)]
    print("\n| job | seconds in all | its own training and evaluation | beyond it |\n|---|---|---|---|")
    for number, (_, status) in enumerate(done):
        whole, own = ends[number + 1] - ends[number], status["seconds"]
        print(f"| {number + 1} | {whole:.2f} | {own:.2f} | {whole - own:.2f} |")


def side_by_side() -> None:
    """The table of eight jobs: one after the other, by default, and by default once more, when all is measured."""
    print("\n| 8 jobs | seconds | of one after the other |\n|---|---|---|")
    words, others = [*SIDE_BY_SIDE, "seed=1,2,3,4,5,6,7,8"], [*SIDE_BY_SIDE, "seed=11,12,13,14,15,16,17,18"]
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as other:
        alone = run([*words, "hydra.launcher.n_jobs=1"], place)
        print(f"| one after the other | {alone:.1f} | |")
        for name, seeds in (("by default", words), ("by default, measured before", others)):
            seconds = run(seeds, other)
            print(f"| {name} | {seconds:.1f} | {seconds / alone:.0%} |")


def main() -> None:
    machine("Sweeps")
    overhead()
    side_by_side()


if __name__ == "__main__":
    main()
