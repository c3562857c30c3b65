"""The picture of benchmarks/decoding.py, in the style of the house.

In: its table. Out: a PNG of two panels, repetition and diversity over log-probability, with human text in the cross.
"""

import io
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from nanolm.files import write_atomic
from nanolm.plots import COLOURS, GREY, STYLE

PANELS = {"repetition": "repeated 4-grams", "distinct_2": "distinct-2"}


def draw(path: Path, rows: pd.DataFrame) -> None:
    """Strategies named alike but for their last word (`top-p 0.8`, `top-p 0.9`) share a colour and are joined."""
    human, rest = rows[rows["strategy"] == "human"].iloc[0], rows[rows["strategy"] != "human"]
    parts = [str(name).rpartition(" ") for name in rest["strategy"]]
    rest = rest.assign(family=[family or value for family, _, value in parts], value=[part[2] for part in parts])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.0, 4.6), layout="constrained")
        for axes, (column, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            _panel(axes, rest, human, column)
            axes.set(xlabel="mean log-probability of a word, nats", ylabel=label)
        lines, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=4, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    write_atomic(path, buffer.getvalue())


def _panel(axes: Any, rows: pd.DataFrame, human: pd.Series, column: str) -> None:
    """`column` over the log-probability: a line for each family, each point with its value; human text in black."""
    axes.set_axisbelow(True)
    for (family, points), colour in zip(rows.groupby("family", sort=False), cycle(COLOURS), strict=False):
        alone = len(points) == 1  # larger, so that greedy is seen behind one beam
        label, size = (points["strategy"].iloc[0], 9) if alone else (family, 6)
        axes.plot(points["logprob"], points[column], "o-", color=colour, alpha=0.8, markersize=size, label=label)
        for x, y, value in [] if alone else zip(points["logprob"], points[column], points["value"], strict=True):
            axes.annotate(value, (x, y), (4, 4), textcoords="offset points", fontsize=7, color=colour)
    x, y = human["logprob"], human[column]
    axes.plot([x], [y], "*", color="black", markersize=14, linestyle="none", label="human")
    axes.axvline(x, color=GREY, linestyle="--", zorder=0)
    axes.axhline(y, color=GREY, linestyle="--", zorder=0)
