"""A table's cells as text, the same in the terminal and on the page; and how they fit a terminal's width.

In: a Table. Out: a DataFrame of texts; lines of at most so many characters. Knows no HTML.
"""

import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from nanolm.comparing.columns import COLUMNS, SCORES, Column
from nanolm.comparing.table import Table

FOOTNOTE = "* per token: compares within one tokenizer only"
LONGEST = 32  # characters of a cell in the terminal


def cell_texts(table: Table) -> pd.DataFrame:
    """The texts of the columns that have something to say; scores as mean ± sd over seeds, differences [interval]."""
    frame = table.frame
    rank, *others = COLUMNS
    order = [rank, *table.knobs, *others]
    texts = pd.DataFrame({key: _column_texts(frame[key], COLUMNS.get(key, Column(key)).form) for key in order})
    for score in SCORES:
        texts[score] += _column_texts(frame[f"{score}_sd"], " ± {:.4f}".format)
    texts["difference"] += _column_texts(frame["low"], " [{:+.4f}, ".format)
    texts["difference"] += _column_texts(frame["high"], "{:+.4f}]".format)
    texts.loc[frame["difference"] == 0, "difference"] = ""
    return texts.loc[:, texts.ne("").any()]


def _column_texts(column: pd.Series, form: Callable[[Any], str]) -> pd.Series:
    return pd.Series(["" if pd.isna(value) else form(value) for value in column], column.index, dtype=str)


def fitting(texts: pd.DataFrame, width: int) -> str:
    """The table in lines of at most `width`: what is too wide is folded, columns that are `extra` only fill the room.

    Every part begins with the first column. A last line names the columns that had no room.
    """
    short = texts.map(lambda text: text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
    headers = {key: COLUMNS[key].header if key in COLUMNS else key for key in texts}
    sizes = {key: max([len(headers[key]), *short[key].map(len)]) + 2 for key in texts}
    first, *others = texts
    parts, used, left_out = [[first]], sizes[first], list[str]()
    for key in others:
        if used + sizes[key] <= width:
            parts[-1].append(key)
            used += sizes[key]
        elif key in COLUMNS and COLUMNS[key].extra:
            left_out.append(headers[key])
        else:
            parts.append([first, key])
            used = sizes[first] + sizes[key]
    blocks = [short[keys].to_string(index=False, header=[headers[key] for key in keys]) for keys in parts]
    if left_out:
        blocks.append(wrapped([f"in compare.csv and on the page: {', '.join(left_out)}"], width))
    return "\n\n".join(blocks)


def wrapped(lines: Iterable[str], width: int) -> str:
    """Lines of text, those that are too long broken between words and indented."""
    return "\n".join(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in lines)
