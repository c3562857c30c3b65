"""Successive halving against the whole grid: the same winner? for how much of its tokens and its time?

python benchmarks/halving.py [knobs constant films vocabulary points] [place=FOLDER]: each sweep is run halved, then
whole; how early the order was known is told by what the whole jobs scored on their way. Prints a table. Started again
with the same place it goes on where it was. Those on films need ../shared/data. With the word `rules` it prints what
other rungs and etas would have come to on these whole grids.
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

from nanolm.sweep.rule import Rule

ROOT = Path(__file__).resolve().parent.parent
SHARED = ["samples=0", "tracking=disabled", "precision=fp32", "model=tiny"]
FILMS = ["data=movie_plots", f"data.path={MOVIES}", "data.maxlen=128", "data.limit=1500", "data.val=0.1"]
FILMS += ["data.test=0.1", "epochs=3", "batch_size=16", "eval_every=22"]  # a tenth of the steps
KNOBS = ["data.plots=1500", "data.val=0.1", "data.test=0.1", "tokens=160000", "eval_every=11", "model.dims=64,128"]
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
DRAWS = 1000  # of 16 jobs from each grid


def sweep(words: list[str], place: Path) -> float:
    """Runs a sweep into `place`; returns the seconds that it took, also if that was in an earlier start."""
    note = place.with_suffix(".seconds")
    if not note.exists():
        begun = time.perf_counter()
        outputs = f"outputs={place.parent}/{place.name}-outputs"  # its own caches
        command = [sys.executable, "train.py", "-m", *SHARED, *words, outputs]
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


def scores_on_the_way(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the steps, and (jobs, shares) val bits per byte of a whole grid's jobs after these."""
    files = [csv.DictReader(file.open()) for file in sorted(place.glob("*/metrics.csv"))]
    evaluated = [[(int(row["step"]), float(row["val_bpb"])) for row in rows if row["val_bpb"]] for rows in files]
    table = np.array(evaluated)
    return table[0, :, 0] / table[0, -1, 0], table[:, :, 1]


def rank_correlations(place: Path) -> str:
    """Of the scores on the way with those at the end (Spearman's), by shares of the steps."""
    shares, scores = scores_on_the_way(place)
    order = scores.argsort(0).argsort(0)
    found = [np.corrcoef(ranks, order[:, -1])[0, 1] for ranks in order.T]
    return ", ".join(f"{share:.0%}: {value:.2f}" for share, value in zip(shares[:-1], found, strict=False))


def outcome(shares: np.ndarray, scores: np.ndarray, seconds: np.ndarray, rule: Rule) -> tuple[float, float, float]:
    """Tokens and time as shares of the whole grid's, and the loss: by how much the winner is worse than the best.

    A rung is taken at the evaluation that lies nearest to it.
    """
    going_on, before, tokens, time_taken = np.arange(len(scores)), 0.0, 0.0, 0.0
    for rung, share in enumerate(rule.shares):
        tokens += len(going_on) * (share - before) / len(scores)
        time_taken += seconds[going_on].sum() * (share - before) / seconds.sum()
        before, column = share, np.abs(shares - share).argmin()
        if share < 1:
            best_first = going_on[scores[going_on, column].argsort()]
            going_on = best_first[: rule.places(len(scores), rung + 1)]
    return tokens, time_taken, scores[going_on, -1].min() - scores[:, -1].min()


def print_rules(places: list[Path]) -> None:
    """What the plain rule comes to with each choice of rungs and eta: means over 16 jobs drawn from each grid."""
    print("\n| rungs | eta | tokens | time of the jobs | loss of the winner |\n|---|---|---|---|---|")
    for rungs in ([0.1, 0.3], [0.1, 0.4], [0.1, 0.5], [0.2, 0.4], [0.2, 0.5], [0.1, 0.3, 0.6]):
        for eta in (2.0, 2.5, 3.0, 3.5, 4.0):
            chance, found = np.random.default_rng(1), list[tuple[float, float, float]]()
            for place in places:
                shares, scores = scores_on_the_way(place)
                seconds = np.array([jobs(place)[name]["seconds"] for name in sorted(jobs(place))])
                for _ in range(DRAWS):
                    drawn = chance.choice(len(scores), 16, replace=False)
                    found.append(outcome(shares, scores[drawn], seconds[drawn], Rule(rungs, eta, None, 0.0)))
            tokens, time_taken, loss = np.mean(found, 0)
            print(f"| {rungs} | {eta:g} | {tokens:.0%} | {time_taken:.0%} | {loss:.4f} |")


def main() -> None:
    arguments = dict.fromkeys(sys.argv[1:])
    kept = next((word.removeprefix("place=") for word in arguments if word.startswith("place=")), None)
    place = Path(kept or tempfile.mkdtemp()).resolve()
    chosen = [word for word in arguments if word in SWEEPS] or ["knobs"]
    if "rules" in arguments:
        return print_rules([place / name / "whole" for name in chosen])
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
