"""Memory: the most that a train.py takes, for `make demo` and each preset, in each precision.

A training of some 35 batches with its evaluations and its report: their lengths and the largest products are all seen
by then. What a run says of itself in status.json is printed, the process as a whole, torch included (some 230 MB).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timer import MOVIES, machine

ROOT = Path(__file__).resolve().parent.parent
FILMS = f"data=movie_plots data.path={MOVIES} data.maxlen=128 data.limit=9252 tokenizer.minfreq=2"
DATA = FILMS if MOVIES.exists() else "data.plots=20000"
WAYS = {
    "make demo": "experiment=demo",
    **{f"{name}, {DATA.split()[0]}": f"{DATA} model={name}" for name in ("tiny", "small", "base")},
    "base, compiled": f"{DATA} model=base compile=on",
}


def peak(words: str, precision: str, place: Path) -> float:
    """MB at most of one training."""
    given = [*words.split(), f"precision={precision}", "tokens=30000", "samples=1", "tracking=disabled"]
    folder = place / f"{len(list(place.iterdir()))}"
    command = [sys.executable, "train.py", *given, f"outputs={place / 'outputs'}", f"hydra.run.dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((folder / "status.json").read_text())["memory_mb"])


def main() -> None:
    limits = machine("Memory")
    precisions = [name for name in ("fp32", "bf16") if f"{name} matrix product" in limits]
    print(f"\nMB at most, {DATA.replace(str(MOVIES), '...')}:\n")
    print(f"| | {' | '.join(precisions)} |\n|---|{'---|' * len(precisions)}")
    with tempfile.TemporaryDirectory() as place:
        for name, words in WAYS.items():
            found = [f"{peak(words, precision, Path(place)):,.0f}" for precision in precisions]
            print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
