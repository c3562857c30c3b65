"""A sweep: what a job costs beyond its own training and evaluation, the first and those after it.

Prints a table of seconds. Corpus, tokenizer and imports are shared, so only the first job pays for them.
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


def main() -> None:
    machine("Sweeps")
    with tempfile.TemporaryDirectory() as place:
        begun = time.time()
        seeds = "seed=" + ",".join(map(str, range(1, JOBS + 1)))
        command = [sys.executable, "train.py", *WORDS, seeds, f"outputs={place}"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        done = [(path.stat().st_mtime, json.loads(path.read_text())) for path in Path(place).rglob("*/status.json")]
    done.sort(key=lambda pair: pair[0])
    ends = [begun, *(end for end, _ in done)]
    print("\n| job | seconds in all | its own training and evaluation | beyond it |\n|---|---|---|---|")
    for number, (_, status) in enumerate(done):
        whole, own = ends[number + 1] - ends[number], status["seconds"]
        print(f"| {number + 1} | {whole:.2f} | {own:.2f} | {whole - own:.2f} |")


if __name__ == "__main__":
    main()
