"""`compare.py`'s verb: what can be believed about a set of runs, in the terminal, as CSV, figures and one page.

In: a CompareConfig. Out: outputs/compare/<sweep, or the time>/ with compare.csv, PNG files and index.html.
"""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from nanolm.comparing.cells import FOOTNOTE, cell_texts, fitting, wrapped
from nanolm.comparing.columns import format_value
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.next_step import next_steps
from nanolm.comparing.page import comparison_page
from nanolm.comparing.record import Record, find_sweep
from nanolm.comparing.report import Report, make_reports
from nanolm.files import make_folder, write_atomic
from nanolm.text import escape_controls


def compare(config: CompareConfig) -> Path:
    """Compares the runs that `config` names and returns the page's path; NanolmError if there are none."""
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if config.sweep is not None:  # `latest` by its own name
        found = Path(config.sweep) if config.source == "wandb" else find_sweep(config.sweep, Path(config.outputs))
        name = found.name
    with TemporaryDirectory() as aside:  # nothing is left where there is nothing to compare
        reports, unranked = make_reports(config, Path(aside))
        print_reports(reports, unranked)
        folder = make_folder(Path(config.outputs, "compare", name))
        for picture in Path(aside).iterdir():
            write_atomic(folder / picture.name, picture.read_bytes())
        write_atomic(folder / "index.html", comparison_page(f"nanolm: {name}", reports, unranked))
    frames = [report.table.frame.assign(corpus=report.table.corpus) for report in reports]
    listed = pd.DataFrame([{"rank": run.name, "verdict": run.trouble} for run in unranked])
    everything = pd.concat([*frames, listed]).drop(columns="records", errors="ignore")
    write_atomic(folder / "compare.csv", everything.to_csv(index=False))
    figures = sum(len(report.pictures) for report in reports)
    print(f"\n{folder}: compare.csv, {figures} figures, and all of it on one page:")
    print(folder / "index.html")
    return folder / "index.html"


def print_reports(reports: Sequence[Report], unranked: Sequence[Record]) -> None:
    """Prints what mattered, every table and its notes, then what is not ranked.

    No line but a command is wider than the terminal.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80  # of a pipe
    parts: list[str] = []
    for report in reports:
        table = report.table
        parts += ["", wrapped([table.title()], width)]
        if report.importance:
            parts.append(wrapped([f"What mattered: {report.importance.sentence()}"], width))
        parts += [fitting(cell_texts(table), width), wrapped([*table.notes, FOOTNOTE], width)]
        if table.by:
            parts += ["\nby group", fitting(table.groups().map(format_value), width)]
        if commands := next_steps(table, report.importance):
            parts += ["\nnext:", *(f"  {command}" for command in commands)]
    if unranked:
        parts += ["\nnot ranked", wrapped([f"{run.name}: {run.trouble}" for run in unranked], width)]
    print(*map(escape_controls, parts), sep="\n")
