"""Which knob mattered: shares of the variance of a table's scores, with that of the seeds beside them; a sentence.

In: a Table. Out: an Importance, or None where nothing was varied. The arithmetic is in `fanova.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from nanolm.comparing.columns import format_value
from nanolm.comparing.fanova import TREES, decompose_forest, decompose_grid
from nanolm.comparing.figures import independent_knobs
from nanolm.comparing.record import is_number
from nanolm.comparing.statistics import pooled_sd
from nanolm.comparing.table import Table
from nanolm.text import counted

FEW = 12  # values of a number that are levels of a grid; more are places on a line
ENOUGH = 10  # runs that a forest needs
SMALL = 0.01  # shares below this are not spoken of
WORDS = 4  # shares that are
POINTS = 33  # of a curve over a line


@dataclass
class Marginal:
    """The mean score at each value of a knob, over all values of the others."""

    values: list[Any]
    scores: np.ndarray
    errors: np.ndarray  # standard errors over seeds; by a forest, the spread of its trees


@dataclass
class Importance:
    """Shares of the variance of one run's score."""

    shares: dict[str, float]  # knob, or `knob x knob`; the largest first
    rest: float  # three or more knobs together; by a forest also what it didn't learn
    noise: float | None  # the seeds'; None where their spread isn't known
    how: str
    marginals: dict[str, Marginal]

    def sentence(self) -> str:
        """In words, the largest shares first."""
        spoken = [f"{key} explains {share:.0%}" for key, share in self.shares.items() if share >= SMALL][:WORDS]
        words = ", ".join(spoken) or "no knob explains anything"
        left = 1 - sum(share for share in self.shares.values() if share >= SMALL)
        if self.noise is None:
            end = f"; {left:.0%} is left, of which more seeds would tell how much is noise" if left >= SMALL else ""
        elif left <= 1.5 * self.noise + SMALL:
            end = f"; what is left is within the seeds' noise ({self.noise:.0%})"
        else:
            end = f"; {left:.0%} is left, the seeds' noise is {self.noise:.0%}"
        return f"{words}{end} ({self.how})."


def find_importance(table: Table) -> Importance | None:
    """Of the knobs that were varied independently; None for less than two knobs' values or too few runs."""
    runs = table.runs
    knobs = independent_knobs(runs, table.knobs)
    if not knobs or len(runs) < 3:
        return None
    columns = [_levels(runs[key]) for key in knobs]
    groups = [[v for run in records if is_number(v := run.status.get(table.score))] for records in runs["records"]]
    sd, freedom = pooled_sd(groups)
    variance = sd**2 if freedom else 0.0
    grid = _grid(columns, runs[table.score], [max(1, len(group)) for group in groups])
    if grid is not None:
        found = decompose_grid(*grid, variance)
        how = f"exact, over a full grid of {counted(grid[0].size, 'configuration')}"
        curves = [values for _, values in columns]
    else:
        repeated = np.repeat(np.arange(len(runs)), [len(group) for group in groups])
        if len(repeated) < ENOUGH:
            return None
        axes = [_axis(runs[key], codes, values) for key, (codes, values) in zip(knobs, columns, strict=True)]
        inputs = np.array([axis.runs[repeated] for axis in axes]).T
        scores = np.array([score for group in groups for score in group])
        found = decompose_forest(inputs, scores, variance, [axis.places for axis in axes])
        how = f"by a forest of {TREES} trees over {len(repeated)} runs, no full grid"
        curves = [axis.values for axis in axes]
    marginals = {
        key: Marginal(values, *found.marginals[i]) for i, (key, values) in enumerate(zip(knobs, curves, strict=True))
    }
    named = {" x ".join(knobs[axis] for axis in axes): share for axes, share in found.parts.items()}
    shares = dict(sorted(named.items(), key=lambda pair: -pair[1]))
    return Importance(shares, found.rest, found.noise if freedom else None, how, marginals)


def _levels(column: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """The place of each value among the different ones, sorted; what a run doesn't have is a level of its own."""
    texts = column.map(format_value)
    numbers = is_numeric_dtype(column) and column.notna().all()
    values = sorted(set(column)) if numbers else sorted(set(texts))
    places = {format_value(value): place for place, value in enumerate(values)}
    return texts.map(places).to_numpy(int), values


def _grid(
    columns: Sequence[tuple[np.ndarray, list[Any]]], scores: pd.Series, counts: Sequence[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(means, counts) with an axis per knob, where each combination of values was run; else None."""
    shape = [len(values) for _, values in columns]
    if np.prod(shape) != len(scores) or scores.isna().any():
        return None
    means, numbers = np.full(shape, np.nan), np.ones(shape)
    places = tuple(codes for codes, _ in columns)
    means[places], numbers[places] = scores.to_numpy(float), counts
    return None if np.isnan(means).any() else (means, numbers)


@dataclass
class _Axis:
    """A knob's values in [0, 1]: of the runs, and where its curve is drawn, with what the knob is there."""

    runs: np.ndarray
    places: np.ndarray
    values: list[Any]


def _axis(column: pd.Series, codes: np.ndarray, values: list[Any]) -> _Axis:
    """Levels take equal parts of it; many numbers lie on a line, a logarithmic one where they span a factor of 10."""
    if not is_numeric_dtype(column) or column.isna().any() or len(values) <= FEW:
        return _Axis((codes + 0.5) / len(values), (np.arange(len(values)) + 0.5) / len(values), values)
    numbers, places = column.to_numpy(float), np.linspace(0, 1, POINTS)
    low, high = numbers.min(), numbers.max()
    if low > 0 and high / low >= 10:
        return _Axis(np.log(numbers / low) / np.log(high / low), places, list(low * (high / low) ** places))
    return _Axis((numbers - low) / (high - low), places, list(low + (high - low) * places))
