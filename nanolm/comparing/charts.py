"""What the interactive figures of a page are drawn from: runs with their knobs, scores and curves, as plain values.

In: a Table and its Importance; or runs that are still going. Out: a JSON-able dict, which nanolm/web/charts.js draws.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanolm.comparing.columns import COLUMNS, format_value
from nanolm.comparing.figures import independent_knobs
from nanolm.comparing.importance import Importance
from nanolm.comparing.record import Record, is_number
from nanolm.comparing.table import Table, knob_value

POINTS = 150  # of a curve; more are thinned
CURVES = ("train_loss", "val_bpb")


def table_charts(table: Table, importance: Importance | None) -> dict[str, Any]:
    """The charts of a table's runs, every seed a run of its own."""
    knobs = independent_knobs(table.runs, table.knobs)
    runs = [run_values(record, knobs, table.score) for records in table.runs["records"] for record in records]
    return charts(runs, knobs, table.score, table.floor, importance)


def charts(
    runs: Sequence[dict[str, Any]],
    knobs: Sequence[str],
    score: str,
    floor: float | None = None,
    importance: Importance | None = None,
) -> dict[str, Any]:
    """All that charts.js needs."""
    return {
        "runs": list(runs),
        "knobs": list(knobs),
        "score": COLUMNS[score].header,
        "floor": floor,
        "importance": importance and importance_values(importance),
    }


def run_values(record: Record, knobs: Iterable[str], score: str) -> dict[str, Any]:
    """One run: name, state, knobs, score, when it ended or was heard of last, curves."""
    values = {key: _plain(knob_value(record, key)) for key in knobs}
    known = {key.split(".")[-1]: _short(value) for key, value in values.items() if value is not None}
    label = " ".join(f"{key}={value}" for key, value in known.items())
    return {
        "name": record.name,
        "label": label or Path(record.name).name,
        "state": record.status.get("state"),
        "knobs": values,
        "score": _plain(record.status.get(score)),
        "ended": record.ended,
        "curves": {column: _curve(record.curves, column) for column in CURVES},
    }


def _short(value: Any) -> str:
    """A value in a label: a number in four figures."""
    return f"{value:.4g}" if isinstance(value, float) else format_value(value)


def _curve(curves: pd.DataFrame, column: str) -> dict[str, list[float]]:
    """tokens, seconds and the column's values where it has any, thinned; the last one is always there."""
    names = {"tokens": "tokens", "seconds": "seconds", "y": column}
    if not set(names.values()) <= set(curves):
        return {key: [] for key in names}
    rows = np.array([curves[name].to_numpy(float) for name in names.values()])
    rows = rows[:, np.isfinite(rows).all(0)]
    last = rows.shape[1] - 1
    kept = np.unique(np.append(np.arange(0, last, 1 + last // POINTS), last)) if last > 0 else slice(None)
    return {key: row.round(6).tolist() for key, row in zip(names, rows[:, kept], strict=True)}


def importance_values(importance: Importance) -> dict[str, Any]:
    """What charts.js draws of it."""
    marginals = {
        key: {
            "values": [_plain(value) for value in one.values],
            "scores": one.scores.round(6).tolist(),
            "errors": one.errors.round(6).tolist(),
        }
        for key, one in importance.marginals.items()
    }
    return {
        "shares": [[key, share] for key, share in importance.shares.items()],
        "rest": importance.rest,
        "noise": importance.noise,
        "sentence": importance.sentence(),
        "marginals": marginals,
    }


def _plain(value: Any) -> Any:
    """A finite number, a text, or None."""
    if value is None or isinstance(value, str) or is_number(value):
        return value
    return None if value != value else str(value)
