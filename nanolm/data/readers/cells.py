"""What the readers of tables share: the way from a column's name to the text in a row.

In: names, rows of plain Python values. Out: text, or a DataError that names the row. `meta.text` is the column of that
name if there is one, or else `text` inside `meta`.
"""

from collections.abc import Sequence
from typing import Any

from nanolm.errors import DataError


def column_path(where: object, column: str, names: Sequence[str]) -> list[str]:
    """The names that lead to the column, from the outermost in; DataError with those that there are."""
    if names.count(column) > 1:
        raise DataError(f"{where}: {names.count(column)} columns are called {column!r}; rename all but one")
    if column in names:
        return [column]
    path = column.split(".")
    if path[0] not in names:
        shown = ", ".join(map(repr, names[:20])) or "(it has none)"
        more = ", ..." if len(names) > 20 else ""
        raise DataError(f"{where}: no column {column!r}; data.column must be one of {shown}{more}")
    return path


def cell_text(where: object, path: Sequence[str], value: Any) -> str:
    """The text at the end of `path` in the value of its first name; nothing for a null."""
    for depth, name in enumerate(path[1:], 1):
        if value is None:
            return ""
        if not isinstance(value, dict):
            raise DataError(f"{where}: {'.'.join(path[:depth])!r} has nothing inside; choose another data.column")
        column_path(where, name, list(value))
        value = value[name]
    if value is not None and not isinstance(value, str):
        inside = f"; inside it are {', '.join(map(repr, value))}" if isinstance(value, dict) and value else ""
        kind = type(value).__name__
        raise DataError(f"{where}: {'.'.join(path)!r} is {kind}, not text; choose another data.column{inside}")
    return value or ""


def row_text(where: object, column: str, row: Any) -> str:
    """The text of one row: a table's, or, where the rows are no tables, the row itself."""
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        raise DataError(f"{where}: {type(row).__name__} instead of a JSON object; write one JSON object a row")
    path = column_path(where, column, list(row))
    return cell_text(where, path, row[path[0]])
