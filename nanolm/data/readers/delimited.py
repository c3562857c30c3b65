"""Tables whose rows are lines: commas, semicolons, tabs or bars between the cells.

In: a Source and the name of the column. Out: its cells. The delimiter is the one that finds the column in the header,
or what a first line `sep=;` says. Holds one row.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from nanolm.data.readers.cells import column_path
from nanolm.data.readers.lines import read_lines
from nanolm.data.readers.source import LONGEST, ReadOptions, Source
from nanolm.errors import DataError

DELIMITERS = ",;\t|"
_HEAD = 200  # lines


def read_delimited(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The cells of one column. Rows with more or fewer cells than the header are left out and counted as `ragged`."""
    csv.field_size_limit(LONGEST)  # its own is 131,072
    lines = read_lines(source, options)
    first, above = next(lines, ""), 0
    told = first.strip().lower().removeprefix("sep=") if first.lower().startswith("sep=") else ""
    if told:
        first, above = next(lines, ""), 1
    delimiter = told or _delimiter(first, options.column)
    head = [first, *islice(lines, _HEAD)]
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" and not _is_quoted(head) else csv.QUOTE_MINIMAL
    rows = csv.reader(chain(head, lines), delimiter=delimiter, quoting=quoting, strict=True)
    good, ragged = 0, ""
    try:
        header = [name.strip() for name in next(rows, [])]
        index = header.index(column_path(source, options.column, header)[0])
        width = len(header)
        for row in rows:
            cells = row if len(row) == width else _fitted(row, width)
            if cells is not None:
                good += 1
                yield cells[index]
            elif not any(cell.strip() for cell in row):
                yield ""
            else:
                ragged = ragged or f"line {rows.line_num + above} has {len(row)} cells, the header {len(header)}"
                counts.update(read=1, ragged=1)
    except csv.Error as error:
        mend = "mend the quotes, or the delimiter" if delimiter == "," else "mend the quotes"
        raise DataError(f"{source}: line {rows.line_num + above}: not a csv row ({error}); {mend}") from error
    if ragged and not good:
        raise DataError(f"{source}: {ragged}, and no row is like the header; mend the header")


def _delimiter(header: str, column: str) -> str:
    """Of those that find the column, and then of all, the one that makes the most cells; a comma before others."""
    cells = {sign: _names(header, sign) for sign in DELIMITERS}
    return max(DELIMITERS, key=lambda sign: (column in cells[sign], len(cells[sign])))


def _is_quoted(head: list[str]) -> bool:
    """Whether quotes enclose cells with tabs between them: in many such files they are a part of the text."""
    try:
        list(csv.reader(head, delimiter="\t", strict=True))
    except csv.Error as error:
        return str(error).startswith("unexpected end")  # of a cell that goes on
    return True


def _names(header: str, delimiter: str) -> list[Any]:
    return [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]


def _fitted(row: list[str], width: int) -> list[str] | None:
    """A row of another width without the empty cells that it has too many at its end; None for any other."""
    if len(row) > width and not any(row[width:]):
        return row[:width]
    return None
