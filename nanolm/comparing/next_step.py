"""What is most worth sweeping next, as commands: the knobs that mattered, at values around or beyond the best ones.

In: a Table of one sweep's runs, its Importance. Out: lines to type; none where the runs are not those of one sweep.
"""

import itertools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanolm.comparing.columns import format_value
from nanolm.comparing.importance import Importance
from nanolm.comparing.record import is_number
from nanolm.comparing.table import SEEDS, Table
from nanolm.errors import NanolmError
from nanolm.files import read_json

KNOBS = 3  # that are proposed
SMALL = 0.05  # a knob that explains less is left as it is
GEOMETRIC = 1.9  # values each of which is so many times the one before are steps of a ratio


def next_steps(table: Table, importance: Importance | None) -> list[str]:
    """Commands: a sweep of what mattered most, and more seeds where several configurations may be the best."""
    fixed, swept = sweep_command(table)
    if not swept:
        return []
    best = table.runs.sort_values(table.score).iloc[0]
    shares = importance.shares if importance else {}
    chosen = {
        key: values
        for key in sorted(swept, key=lambda key: -shares.get(key, 0))
        if shares.get(key, 0) >= SMALL and (values := values_around(list(table.runs[key]), best[key]))
    }
    chosen = dict(list(chosen.items())[:KNOBS])
    commands = []
    if chosen:
        words = [f"{key}={format_value(best[key])}" for key in swept if key not in chosen]
        words += [f"{key}={','.join(map(format_value, values))}" for key, values in chosen.items()]
        commands.append(command("hydra/sweeper=halving", *fixed, *words))
    if "may_be_best" in table.runs and table.runs["may_be_best"].sum() > 1:
        among = table.runs[table.runs["may_be_best"].astype(bool)]
        words = [f"{key}={','.join(dict.fromkeys(map(format_value, among[key])))}" for key in swept]
        commands.append(command(*fixed, *words, f"seed={','.join(map(str, more_seeds(table)))}"))
    return commands


def sweep_command(table: Table) -> tuple[list[str], list[str]]:
    """The words of the sweep's command that stay, and the keys that it swept and the table has; () if there is none."""
    folders = {Path(record.name).parent for records in table.runs["records"] for record in records}
    if len(folders) != 1:
        return [], []
    try:
        note = read_json(folders.pop() / "sweep.json")
        typed, swept = [str(word) for word in note["command"][1:]], [str(key) for key in note["swept"]]
    except (NanolmError, LookupError, TypeError):
        return [], []
    fixed = [
        word
        for word in typed
        if "=" in word
        and not word.startswith(("-", "hydra", "sweep="))
        and word.lstrip("+").partition("=")[0] not in (*swept, *SEEDS)
    ]
    return fixed, [key for key in swept if key in table.knobs]


def command(*words: str) -> str:
    """A line for a shell."""
    return " ".join(["python train.py -m", *map(shlex.quote, words)])


def more_seeds(table: Table) -> list[int]:
    """Three that the runs haven't had."""
    had = [int(run.config.get("seed", 0)) for records in table.runs["records"] for run in records]
    return [max(had) + place for place in (1, 2, 3)]


def values_around(tried: Sequence[Any], best: Any) -> list[float]:
    """Values to try beside `best`: beyond it where it is at an end of what was tried, else halfway to its neighbours.

    Empty for what is no number, and where there is nothing between. Whole numbers stay whole, and multiples of half
    of what all of them are multiples of.
    """
    if isinstance(best, bool) or not all(is_number(value) for value in tried):
        return []
    places = sorted(set(tried))
    pairs = list(itertools.pairwise(places))
    geometric = places[0] > 0 and all(high / low >= GEOMETRIC for low, high in pairs)
    at = places.index(best)
    below, above = places[:at][-1:], places[at + 1 :][:1]
    found: list[float] = []
    for neighbour, missing in ((below, above), (above, below)):
        if not neighbour:
            continue
        value = neighbour[0]
        found.append(math.sqrt(best * value) if geometric else (best + value) / 2)
        if not missing:  # the best is an end: one step further, and two
            found += [best**2 / value, best**3 / value**2] if geometric else [2 * best - value, 3 * best - 2 * value]
    lowest = min(0, places[0])  # what was never negative has no reason to become so
    found = [value for value in found if value > lowest or (value == lowest and value in places)]
    if all(value == int(value) for value in places):
        step = max(1, math.gcd(*map(int, places)) // 2)
        found = [round(value / step) * step for value in found]
    around = sorted({float(f"{value:.4g}") for value in [best, *found]})
    return around if len(around) > 1 else []
