"""Which figures a table gets: loss over tokens and time, scores over the knobs, over size and over compute.

In: a Table and a folder. Out: PNG files, as {path: caption}. What a figure looks like is in `plots.py`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanolm import plots
from nanolm.comparing.columns import format_value
from nanolm.comparing.statistics import power_law
from nanolm.comparing.table import Table
from nanolm.text import counted

POINTS = 300  # of a curve; more are averaged
NAMES = {"test_bpb": "test bits per byte", "val_bpb": "val bits per byte", "train_loss": "train loss, nats per token"}


def draw_figures(table: Table, folder: Path, prefix: str = "") -> dict[Path, str]:
    """Draws every figure that the table has data for; their files' names begin with `prefix`."""
    found: dict[Path, str] = {}
    runs = table.runs
    for axis, label in (("tokens", "tokens seen"), ("seconds", "seconds of training")):
        found |= _curves(table, axis, label, folder / f"{prefix}loss_over_{axis}.png")
    knobs = [key for key in table.by if key in table.knobs] or independent_knobs(runs, table.knobs)
    if len(knobs) == 2:
        found |= _heat_map(table, knobs, folder / f"{prefix}heat_map.png")
    for key in knobs:
        found |= _knob(table, key, folder / f"{prefix}knob_{key}.png")
    for label, sizes in (("parameters", runs["embedding"] + runs["body"]), ("training FLOPs", runs["flops"])):
        found |= _scaling(table, sizes, label, folder / f"{prefix}{label.replace(' ', '_')}.png")
    return found


def independent_knobs(runs: pd.DataFrame, knobs: Sequence[str]) -> list[str]:
    """The knobs that differ and that no other one decides (a context that comes with its tokenizer is left out)."""
    texts = runs[list(knobs)].astype(str)
    kept: list[str] = []
    for key in sorted(knobs, key=lambda key: -texts[key].nunique()):
        if texts[key].nunique() > 1 and not any(_decides(texts, other, key) for other in kept):
            kept.append(key)
    return [key for key in knobs if key in kept]


def _decides(texts: pd.DataFrame, other: str, key: str) -> bool:
    """Whether equal values of `other` always come with equal ones of `key`; values that occur once show nothing."""
    repeated = texts[texts.duplicated(other, keep=False)]
    return 2 * len(repeated) > len(texts) and bool(repeated.groupby(other)[key].nunique().max() == 1)


def row_labels(table: Table) -> dict[Any, str]:
    """What sets each row of runs apart, by its place in the frame: independent knobs, or the first run's name."""
    found, knobs = {}, independent_knobs(table.runs, table.knobs)
    for place, row in table.runs.iterrows():
        words = (f"{key.split('.')[-1]}={format_value(row[key])}" for key in knobs if format_value(row[key]))
        found[place] = " ".join(words) or row["records"][0].name
    return found


def _curves(table: Table, axis: str, xlabel: str, path: Path) -> dict[Path, str]:
    runs, names, lines = table.runs.sort_values(table.score), row_labels(table), {}
    alike = len({record.tokenizer for records in runs["records"] for record in records}) == 1
    column = "train_loss" if alike else "val_bpb"  # losses per token compare within one tokenizer
    for place, records in runs["records"].items():
        points = records[0].curves.reindex(columns=[axis, column]).dropna()
        if len(points):
            points = points.groupby(np.arange(len(points)) * POINTS // max(POINTS, len(points))).mean()
            lines[names[place]] = (points[axis].to_numpy(), points[column].to_numpy())
    if not lines:
        return {}
    plots.curves(path, f"{column.replace('_', ' ')} over {axis}", (xlabel, NAMES[column]), lines)
    return {path: f"One run of each of {counted(len(lines), 'configuration')}; the best eight in colour."}


def _knob(table: Table, key: str, path: Path) -> dict[Path, str]:
    runs = table.runs.dropna(subset=[key, table.score]).sort_values(table.score)
    runs["place"], values = pd.factorize(runs[key], sort=True)
    best = runs.drop_duplicates(key).sort_values("place")
    columns = ["place", table.score, f"{table.score}_sd"]
    ticks = [format_value(value) for value in values]
    points = best[columns].to_numpy().T, runs[columns[:2]].to_numpy().T
    plots.scores_by_knob(path, (key, NAMES[table.score]), ticks, *points)
    return {path: "Grey: every configuration. In colour: the best at each value, bars: sd over seeds."}


def _heat_map(table: Table, knobs: Sequence[str], path: Path) -> dict[Path, str]:
    scores = table.runs.pivot_table(table.score, knobs[1], knobs[0], "min")
    plots.heat_map(path, NAMES[table.score], scores.rename(format_value).rename(columns=format_value))
    return {path: "Means over seeds; where other knobs differ too, the best over them."}


def _scaling(table: Table, sizes: pd.Series, label: str, path: Path) -> dict[Path, str]:
    """A series for each tokenizer, and a power law above the floor where there are enough sizes."""
    kinds = [records[0].config.get("tokenizer", "runs") for records in table.runs["records"]]
    runs = table.runs.assign(size=sizes, kind=kinds).dropna(subset=["size", table.score]).sort_values("size")
    if runs["size"].nunique() < 2:
        return {}
    floor, series = table.floor or 0.0, {}
    for kind, part in runs.groupby("kind"):
        x, y = part["size"].to_numpy(), part[table.score].to_numpy()
        a, b = power_law(x, y, floor) or (math.nan, math.nan)
        words = f"{floor:.3f} + {a:.3g} x^{b:.3f}" if a == a else ""
        series[str(kind)] = (np.array([x, y, floor + a * x**b]), words)
    plots.scaling(path, (label, NAMES[table.score]), series, table.floor)
    return {path: "Lines: fitted power laws. FLOPs: 6 x tokens x the weights that multiply a token."}
