"""Successive halving against the whole grid: the same winner? for how much of its tokens and its time?

python benchmarks/halving.py [knobs constant films vocabulary points] [place=FOLDER]: each sweep is run halved, then
whole; how early the order was known is told by what the whole jobs scored on their way. Prints a table. Started again
with the same place it goes on where it was. Those on films need ../shared/data.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from timer import MOVIES, machine

ROOT = Path(__file__).resolve().parent.parent
SHARED = ["samples=0", "tracking=disabled", "precision=fp32", "model=tiny"]
FILMS = [
    "data=movie_plots",
    f"data.path={MOVIES}",
    "data.maxlen=128",
    "data.limit=1500",
    "data.val=0.1",
    "data.test=0.1",
]
FILMS += ["data.val=0.1", "data.test=0.1", "epochs=2", "batch_size=16", "eval_every=15"]  # a tenth of the steps
KNOBS = ["data.plots=1500", "data.val=0.1", "data.test=0.1", "tokens=60000", "eval_every=11", "model.dims=64,128"]
KNOBS += ["optim.lr=0.0025,0.005,0.01,0.02", "model.dropout=0,0.2"]
POINTS = ["hydra.sweeper.n_trials=32", "optim.lr=tag(log,interval(1e-3,3e-2))", "model.dropout=interval(0,0.3)"]
POINTS += ["model.dims=64,128,192", "model.nblocks=1,2,3", "tokenizer.minfreq=2,5"]
SWEEPS = {
    "knobs": KNOBS,
    "constant": [*KNOBS, "optim.schedule=constant", "ema=0.98"],
    "films": [*FILMS, "tokenizer.minfreq=2", "model.dims=64,96,128,192", "optim.lr=0.002,0.003,0.005,0.01,0.015,0.02"],
    "vocabulary": [*FILMS, "tokenizer.minfreq=1,2,5,10", "model.nblocks=1,2,3", "model.dropout=0,0.1"],
    "points": [*FILMS, *POINTS],
}


def sweep(words: list[str], place: Path) -> float:
    """Runs a sweep into `place`; returns the seconds that it took, also if that was in an earlier start."""
    note = place.with_suffix(".seconds")
    if not note.exists():
        begun = time.perf_counter()
        command = [
            sys.executable,
            "train.py",
            "-m",
            *SHARED,
            *words,
            f"outputs={place.parent}/{place.name}-outputs",
        ]  # its own caches
        command += [f"hydra.sweep.dir={place}", "hydra/sweeper=halving"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        note.write_text(str(time.perf_counter() - begun))
    return float(note.read_text())


def jobs(place: Path) -> dict[str, dict[str, Any]]:
    """The statuses of a sweep's jobs, by their names."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(place.glob("*/status.json"))}


def winner(place: Path) -> Path:
    """The folder of the finished job with the lowest val bits per byte."""
    done = {name: status["val_bpb"] for name, status in jobs(place).items() if status["state"] == "finished"}
    return place / min(done, key=lambda name: done[name])


def test_bits(folder: Path) -> np.ndarray:
    """(documents, 2): bits and bytes of each test document."""
    rows = list(csv.DictReader((folder / "test_bits.csv").open()))
    return np.array([[float(row["bits"]), float(row["bytes"])] for row in rows])


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Of the test bits per byte of two runs, paired over the documents: the mean, and half its 95% interval."""
    (bits, nbytes), (others, _) = test_bits(one).T, test_bits(other).T
    mean = (bits - others).sum() / nbytes.sum()
    residuals = bits - others - mean * nbytes
    return float(mean), float(1.96 * np.sqrt((residuals**2).sum()) / nbytes.sum())


def rank_correlations(place: Path) -> str:
    """Of the scores of a whole grid's jobs on their way with those at the end (Spearman's), by shares of the steps."""
    scores: dict[int, list[float]] = {}
    for file in sorted(place.glob("*/metrics.csv")):
        for row in csv.DictReader(file.open()):
            if row["val_bpb"]:
                scores.setdefault(int(row["step"]), []).append(float(row["val_bpb"]))
    last, order = max(scores), {step: np.argsort(np.argsort(values)) for step, values in scores.items()}
    pairs = {step / last: np.corrcoef(order[step], order[last])[0, 1] for step in sorted(scores) if step < last}
    return ", ".join(f"{share:.0%}: {value:.2f}" for share, value in pairs.items())


def main() -> None:
    arguments = dict.fromkeys(sys.argv[1:])
    kept = next((word.removeprefix("place=") for word in arguments if word.startswith("place=")), None)
    place = Path(kept or tempfile.mkdtemp()).resolve()
    chosen = [word for word in arguments if not word.startswith("place=")] or ["knobs"]
    machine("Successive halving")
    print("\n| sweep | jobs | tokens | time | winner's test difference | rank correlation with the end |")
    print("|---|---|---|---|---|---|")
    for name in chosen:
        halved, whole = place / name / "halved", place / name / "whole"
        seconds = sweep(SWEEPS[name], halved)
        all_seconds = sweep([*SWEEPS[name], "hydra.sweeper.rungs=[]"], whole)
        tokens = [sum(status["tokens"] for status in jobs(folder).values()) for folder in (halved, whole)]
        mean, half = difference(winner(halved), winner(whole))
        print(
            f"| {name} | {len(jobs(whole))} | {tokens[0] / tokens[1]:.0%} | {seconds / all_seconds:.0%} "
            f"| {mean:+.4f} ± {half:.4f} | {rank_correlations(whole)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
