"""`compare.py`'s verb: what can be believed about a set of runs, in the terminal, as CSV, figures and one page.

In: a CompareConfig. Out: outputs/compare/<sweep, or the time>/ with compare.csv, PNG files and index.html.
"""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from nanolm.comparing.cells import FOOTNOTE, HEADERS, cells
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.figures import draw
from nanolm.comparing.page import page
from nanolm.comparing.records import Record, collect
from nanolm.comparing.reference import add_baselines
from nanolm.comparing.table import Table, tables
from nanolm.files import make_folder, write_atomic
from nanolm.text import escape_controls


def compare(config: CompareConfig) -> Path:
    """Compares the runs that `config` names and returns the page's path; NanolmError if there are none."""
    found, unranked = tables(collect(config), config.sort, config.by)
    if config.baselines and config.source == "folders":
        for table in found:
            add_baselines(table, Path(config.outputs, "cache"))
    show(found, unranked)
    name = Path(config.sweep).name if config.sweep else f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = make_folder(Path(config.outputs, "compare", name))
    frames = [table.frame.assign(corpus=table.corpus) for table in found]
    listed = pd.DataFrame([{"rank": run.name, "verdict": run.trouble} for run in unranked])
    everything = pd.concat([*frames, listed]).drop(columns="records", errors="ignore")
    write_atomic(folder / "compare.csv", everything.to_csv(index=False))
    figures = [draw(table, folder, f"{table.corpus[:8]}_" * (len(found) > 1)) for table in found]
    write_atomic(folder / "index.html", page(f"nanolm: {name}", found, unranked, figures))
    print(f"\n{folder}: compare.csv, {sum(map(len, figures))} figures, and all of it on one page:")
    print(folder / "index.html")
    return folder / "index.html"


def show(tables: Sequence[Table], unranked: Sequence[Record]) -> None:
    """Prints every table with its notes, its columns folded at a terminal's edge; then what is not ranked."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for table in tables:
        print(escape_controls(f"\n{table.title()}"))
        print(escape_controls(cells(table).rename(columns=HEADERS).to_string(index=False, line_width=width)))
        print(*map(escape_controls, table.notes), FOOTNOTE, sep="\n")
        if table.by:
            print(escape_controls(f"\nby group\n{table.groups().to_string(index=False, line_width=width)}"))
    if unranked:
        print("\nnot ranked", *(escape_controls(f"{run.name}: {run.trouble}") for run in unranked), sep="\n")
