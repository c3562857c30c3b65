"""Every figure of the house. In: plain numbers and a path. Out: a PNG file. Knows nothing of runs or models.

Drawn without pyplot: needs no display and keeps no list of open figures.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanolm.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, RED, GREY = "#1f5fa8", "#c4452d", "#9a9a9a"
COLOURS = (BLUE, RED, "#2a9d5c", "#d69a00", "#8453a8", "#3fb0c9", "#c76a9c", "#7a6a45")
STYLE: Any = {
    "text.parse_math": False,  # a $ in a run's name is a dollar
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "figure.subplot.left": 0.12,  # where no layout is computed
    "figure.subplot.right": 0.97,
    "figure.subplot.bottom": 0.13,
    "figure.subplot.top": 0.92,
}


Line = tuple[np.ndarray, np.ndarray]  # x, y
Labels = tuple[str, str]  # of x, of y


@contextmanager
def _figure(
    path: Path, title: str, labels: Labels, size: tuple[float, float] = (6.4, 4.0), layout: Any = "constrained"
) -> Iterator["Axes"]:
    """One pair of axes in the house's style; written to `path` when the block ends. `size` in inches at 150 dpi.

    layout: of matplotlib's; None draws once instead of twice, with margins that hold numbers of a few signs.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout=layout)
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(title, y=1)  # a place that is not given is sought, for a quarter of the time
        yield axes
        for axis in (axes.xaxis, axes.yaxis):  # the usual labels of powers are TeX, which would be shown as it stands
            if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(EngFormatter(sep=""))
                axis.set_minor_formatter(NullFormatter())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    write_atomic(path, buffer.getvalue())


def frequency_rank(path: Path, counts: np.ndarray, kept: int, minfreq: int, title: str) -> None:
    """Zipf's curve: `counts` falling, of all pieces of the training texts; the first `kept` are in the vocabulary."""
    ranks = np.unique(np.geomspace(1, len(counts), 2000).astype(int))  # a million points look no different
    heights = counts[ranks - 1]
    with _figure(path, title, ("rank", "count in the training texts")) as axes:
        left, right = ranks <= kept, ranks >= kept
        axes.loglog(ranks[left], heights[left], color=BLUE, label=f"kept: {kept:,}")
        if kept < len(counts):
            axes.loglog(ranks[right], heights[right], color=RED, label=f"dropped: {len(counts) - kept:,}")
            axes.axvline(kept + 0.5, color=GREY, linestyle="--", label=f"minfreq = {minfreq}")
        axes.legend()


def curves(path: Path, title: str, labels: Labels, lines: Mapping[str, Line], floor: float | None = None) -> None:
    """Named lines, the best first: the first eight in colour and named, the others grey behind them."""
    with _figure(path, title, labels, layout=None) as axes:  # every run waits for three of them
        for place, (name, (x, y)) in enumerate(lines.items()):
            colour, label = (COLOURS[place], name) if place < len(COLOURS) else (GREY, None)
            axes.plot(x, y, color=colour, label=label, marker="." if len(x) < 40 else "", zorder=3 - place / len(lines))
        _legend(axes, floor)
        if "perplexity" in labels[1]:
            axes.set_yscale("log")  # before the limit, which would keep a linear axis' other end, often below 0
        late = np.concatenate([y[len(y) // 30 :] for _, y in lines.values()])  # the first steps would hide the rest
        axes.set_ylim(top=np.nanmax(late) * 1.02)


def _legend(axes: "Axes", floor: float | None) -> None:
    """The legend, with the line that no model is below on average where it is known."""
    if floor is not None:
        axes.axhline(floor, color=GREY, linestyle="--", label=f"floor {floor:.4f}")
    axes.legend(fontsize=8, loc="upper right")  # seeking the best place takes seconds


def panels(
    path: Path, title: str, x: str, groups: Mapping[str, Mapping[str, Line]], shares: Sequence[str], named: int = 8
) -> None:
    """Named lines in a panel for each label of y, over the same x: the first `named` in colour, the others grey.

    shares: the labels whose y is a share, drawn from 0 to 1.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows, columns = (len(groups) + 1) // 2, min(2, len(groups))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.4 + 4 * columns, 0.6 + 2.6 * rows), layout="constrained")
        figure.suptitle(title)
        cells = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for number, (axes, (label, lines)) in enumerate(zip(cells, groups.items(), strict=False)):
            axes.set(xlabel=x if number >= len(groups) - columns else "", ylabel=label)
            for place, (name, (across, y)) in enumerate(lines.items()):
                colour, known = (COLOURS[place], name) if place < named else (GREY, None)
                marker = "." if len(across) < 10 else ""
                axes.plot(across, y, color=colour, label=known, marker=marker, zorder=3 - place / len(lines))
            if label in shares:
                axes.set_ylim(-0.02, 1.02)
            if len(lines) > 1:
                axes.legend(fontsize=8)
        for axes in cells[len(groups) :]:
            axes.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())


def _tick(value: object) -> str:
    """A value beside an axis; of a long one, a path perhaps, head and end: else nothing is left for the picture."""
    text = str(value)
    return text if len(text) <= 24 else f"{text[:11]}…{text[-12:]}"


def scores_by_knob(path: Path, labels: Labels, ticks: list[str], best: np.ndarray, every: np.ndarray) -> None:
    """Scores over the values of one knob. best: (3, values) places on `ticks`, scores, sds; every: (2, runs)."""
    with _figure(path, f"{labels[1]} over {labels[0]}", labels) as axes:
        axes.plot(*every, ".", color=GREY)
        line = "none" if any(tick[:1].isalpha() for tick in ticks) else "-"  # nothing lies between two words
        axes.errorbar(*best, color=BLUE, marker="o", linestyle=line, capsize=4)
        axes.set_xticks(range(len(ticks)), map(_tick, ticks))
        axes.margins(x=0.1)


def heat_map(path: Path, title: str, cells: "pd.DataFrame") -> None:
    """The values of two named axes in colour and in figures; nan stays empty."""
    height, width = cells.shape
    labels, size = (cells.columns.name, cells.index.name), (2.4 + 0.8 * max(4, width), 1.6 + 0.5 * height)
    with _figure(path, title, labels, size) as axes:
        mesh = axes.pcolormesh(cells, cmap="viridis_r", edgecolors="white", linewidth=1.5)
        middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
        for (row, column), value in np.ndenumerate(cells.to_numpy()):
            colour = "white" if value > middle else "black"
            axes.text(column + 0.5, row + 0.5, f"{value:.3f}" if value == value else "", ha="center", color=colour)
        axes.set_xticks(np.arange(width) + 0.5, map(_tick, cells.columns))
        axes.set_yticks(np.arange(height) + 0.5, map(_tick, cells.index))
        axes.grid(visible=False)
        axes.figure.colorbar(mesh, ax=axes)


def scaling(path: Path, labels: Labels, series: Mapping[str, tuple[np.ndarray, str]], floor: float | None) -> None:
    """Scores over a size on a logarithmic axis. series: name -> ((3, n): size, score, fit or nan; the fit in words)."""
    with _figure(path, f"{labels[1]} against {labels[0]}", labels) as axes:
        for (name, ((x, y, fit), words)), colour in zip(series.items(), cycle(COLOURS), strict=False):
            axes.plot(x, y, "o", color=colour, label=name)
            if words:
                axes.plot(x, fit, color=colour, alpha=0.7, label=words)
        axes.set_xscale("log")
        _legend(axes, floor)


def attention_grid(path: Path, weights: np.ndarray) -> None:
    """(layers, heads, T, T): a small map of every head; darker is more, on a scale of square roots."""
    layers, heads, size, _ = weights.shape
    gap = 1 + size // 16
    maps = np.where(np.tri(size, dtype=bool), np.sqrt(weights), np.nan)  # what can't be seen stays empty
    cells = np.pad(maps, [(0, 0), (0, 0), (0, gap), (0, gap)], constant_values=np.nan)
    picture = cells.swapaxes(1, 2).reshape(layers * (size + gap), heads * (size + gap))
    title = "What each token (row) attends to (column), by layer and head"
    with _figure(path, title, ("head", "layer"), (1 + 1.4 * max(4, heads), 1.2 + 1.4 * layers)) as axes:
        axes.imshow(picture[:-gap, :-gap], cmap="Blues", vmin=-0.08, vmax=1)
        for ticks, count in ((axes.set_xticks, heads), (axes.set_yticks, layers)):
            ticks(np.arange(count) * (size + gap) + size / 2, [str(i + 1) for i in range(count)])
        axes.grid(visible=False)


def attention_map(path: Path, weights: np.ndarray, tokens: Sequence[str], title: str) -> None:
    """(T, T) of one head, each row and column named by its token; colours on a scale of square roots."""
    from matplotlib.colors import PowerNorm

    shown = ("".join(c if c.isprintable() else ascii(c)[1:-1] for c in token) for token in tokens)
    names = [name.replace(" ", "␣")[:24] for name in shown]
    side = 3 + 0.16 * max(12, len(names))
    # a letter that the font lacks becomes a box, without a word
    with warnings.catch_warnings(action="ignore"), _figure(path, title, ("to", "from"), (side + 1, side)) as axes:
        cells = np.where(np.tri(len(names), dtype=bool), weights, np.nan)
        image = axes.imshow(cells, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        for ticks, turn in ((axes.set_xticks, 90), (axes.set_yticks, 0)):
            ticks(range(len(names)), names, rotation=turn, fontsize=8)
        axes.grid(visible=False)
        axes.figure.colorbar(image, ax=axes, shrink=0.6, aspect=40)
