"""The pictures of docs/results.md from the tables beside it: python benchmarks/results.py

In: docs/results/original.csv (metrics.csv of two runs, a row for each tenth of an epoch), minfreq.csv, width.csv and
depth.csv (as compare.py writes them), better.csv (evaluations of two builds on three grounds). Out: a
PNG beside each.
"""

import io
import math
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from nanolm.files import write_atomic
from nanolm.plots import BLUE, COLOURS, RED, STYLE

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"


def panels(path: Path, count: int) -> Any:
    """`count` axes side by side in the house's style, and what writes them to `path`."""
    figure = Figure(figsize=(5.0 * count, 3.8), layout="constrained")

    def write() -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write_atomic(path, buffer.getvalue())

    return figure.subplots(1, count, squeeze=False)[0], write


def original(rows: pd.DataFrame) -> None:
    """The original's two plots; the val of both splits."""
    axes, write = panels(FOLDER / "original.png", 2)
    for one, label, turn in zip(axes, ("loss, nats per token", "perplexity per token"), (float, math.exp), strict=True):
        for (split, line), colour in zip(rows.groupby("split", sort=False), (RED, BLUE), strict=True):
            val = line.dropna(subset=["val_loss"])
            one.plot(val["epoch"], val["val_loss"].map(turn), "o-", color=colour, label=f"val, {split} split")
            one.plot(
                line["epoch"], line["train_loss"].map(turn), "--", color=colour, alpha=0.5, label=f"train, {split}"
            )
        one.set(xlabel="epoch", ylabel=label)
    axes[0].set(title="The original: val is best after 6 epochs", ylim=(None, 5))
    axes[1].set(title="The same as perplexity", ylim=(0, 100))
    axes[0].legend()
    write()


def minfreq(rows: pd.DataFrame) -> None:
    """What perplexity says of minfreq, and what bits per byte say."""
    rows = rows.sort_values("tokenizer.minfreq")
    axes, write = panels(FOLDER / "minfreq.png", 2)
    left, right = axes
    left.plot(rows["tokenizer.minfreq"], rows["test_ppl"], "o-", color=RED)
    left.set(title="The misleading curve", ylabel="test perplexity per token")
    right.plot(rows["tokenizer.minfreq"], rows["test_bpb"], "o-", color=BLUE)
    right.set(title="The honest curve: every <UNK> is paid for", ylabel="test bits per byte")
    for one in axes:
        one.set_xscale("log", base=2)
        one.set(xlabel="minfreq", xticks=rows["tokenizer.minfreq"], xticklabels=rows["tokenizer.minfreq"])
    write()


def better(rows: pd.DataFrame) -> None:
    """Bits per byte over time before and after, a panel for each ground, a line for each seed."""
    grounds = rows["ground"].unique()
    axes, write = panels(FOLDER / "better.png", len(grounds))
    for one, ground in zip(axes, grounds, strict=True):
        for build, colour in (("before", RED), ("after", BLUE)):
            seeds = rows[(rows["ground"] == ground) & (rows["build"] == build)].groupby("seed")
            for number, (_, line) in enumerate(seeds):
                label = None if number else build
                one.plot(line["seconds"], line["val_bpb"], ".-", color=colour, alpha=0.7, label=label)
        one.set(title=ground, xlabel="seconds", ylabel="val bits per byte")
        one.legend()
    write()


def over_lr(axes: Any, rows: pd.DataFrame, key: str) -> None:
    """Loss over learning rate, a line for each value of `key`."""
    for (size, line), colour in zip(rows.groupby(key), COLOURS, strict=False):
        line = line.sort_values("optim.lr")
        best = line.loc[line["val_bpb"].idxmin()]
        axes.plot(line["optim.lr"], line["val_bpb"], ".-", color=colour, label=f"{key.removeprefix('model.')} {size}")
        axes.plot(best["optim.lr"], best["val_bpb"], "o", color=colour, markersize=9)
    axes.set_xscale("log", base=2)
    ticks = sorted(rows["optim.lr"].unique())
    axes.set(xlabel="optim.lr", ylabel="val bits per byte")
    axes.set_xticks(ticks, [f"{lr:g}" for lr in ticks])
    axes.legend()


def width(rows: pd.DataFrame) -> None:
    """One learning rate for every width."""
    (axes,), write = panels(FOLDER / "width.png", 1)
    over_lr(axes, rows, "model.dims")
    axes.set(title="One learning rate for every width")
    write()


def depth(rows: pd.DataFrame) -> None:
    """The same for depths."""
    (axes,), write = panels(FOLDER / "depth.png", 1)
    over_lr(axes, rows[rows["optim.depth_scaling"]], "model.nblocks")
    axes.set(title="One learning rate for every depth")
    write()


def main() -> None:
    with matplotlib.rc_context(STYLE):
        for draw in (original, minfreq, width, depth, better):
            draw(pd.read_csv(FOLDER / f"{draw.__name__}.csv"))


if __name__ == "__main__":
    main()
