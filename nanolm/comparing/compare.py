"""`compare.py`'s verb: what can be believed about a set of runs, in the terminal, as CSV, figures and one page.

In: a CompareConfig. Out: outputs/compare/<sweep, or the time>/ with compare.csv, PNG files and index.html.
"""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from nanolm.comparing.cells import FOOTNOTE, cell_texts, fitting, wrapped
from nanolm.comparing.columns import format_value
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.figures import draw_figures
from nanolm.comparing.page import comparison_page
from nanolm.comparing.records import Record, collect
from nanolm.comparing.reference import add_baselines
from nanolm.comparing.table import Table
from nanolm.comparing.verdicts import ranked_tables
from nanolm.files import make_folder, write_atomic
from nanolm.text import escape_controls


def compare(config: CompareConfig) -> Path:
    """Compares the runs that `config` names and returns the page's path; NanolmError if there are none."""
    found, unranked = ranked_tables(collect(config), config.sort, config.by)
    if config.baselines and config.source == "folders":
        for table in found:
            add_baselines(table, Path(config.outputs, "cache"))
    print_tables(found, unranked)
    name = Path(config.sweep).name if config.sweep else f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = make_folder(Path(config.outputs, "compare", name))
    frames = [table.frame.assign(corpus=table.corpus) for table in found]
    listed = pd.DataFrame([{"rank": run.name, "verdict": run.trouble} for run in unranked])
    everything = pd.concat([*frames, listed]).drop(columns="records", errors="ignore")
    write_atomic(folder / "compare.csv", everything.to_csv(index=False))
    prefixes = [f"{table.corpus[:8]}_" if len(found) > 1 else "" for table in found]
    figures = [draw_figures(table, folder, prefix) for table, prefix in zip(found, prefixes, strict=True)]
    write_atomic(folder / "index.html", comparison_page(f"nanolm: {name}", found, unranked, figures))
    print(f"\n{folder}: compare.csv, {sum(map(len, figures))} figures, and all of it on one page:")
    print(folder / "index.html")
    return folder / "index.html"


def print_tables(tables: Sequence[Table], unranked: Sequence[Record]) -> None:
    """Prints every table with its notes, then what is not ranked; no line is wider than the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80  # of a pipe
    parts: list[str] = []
    for table in tables:
        parts += ["", wrapped([table.title()], width), fitting(cell_texts(table), width)]
        parts.append(wrapped([*table.notes, FOOTNOTE], width))
        if table.by:
            parts += ["\nby group", fitting(table.groups().map(format_value), width)]
    if unranked:
        parts += ["\nnot ranked", wrapped([f"{run.name}: {run.trouble}" for run in unranked], width)]
    print(*map(escape_controls, parts), sep="\n")
