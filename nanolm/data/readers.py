"""Files of text, plain or .gz, as streams of documents: text, csv, jsonl, parquet.

In: a path and, for tables, the column that holds the text. Out: one string a document, blank ones included.
Whatever is wrong with a file becomes a DataError that names the file and the line. Never holds more than one document.
"""

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from nanolm.errors import DataError
from nanolm.text import first_line

TEXT = ("", ".txt", ".text", ".md")
DOCUMENTS = ("line", "paragraph", "file")
LONGEST = 2**28  # bytes or characters of a line, a cell, a document: a packed file could hold more than the memory
_UNREADABLE = (OSError, EOFError, zlib.error)  # what a missing, forbidden or damaged file raises, .gz included


def read_documents(path: Path, document: str, column: str, counts: Counter[str]) -> Iterator[str]:
    """The documents of one file, its kind taken from its name; adds `read`, `blank` and `ragged` (csv) to `counts`."""
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    tables: dict[str, Any] = {".csv": partial(read_csv, counts=counts), ".jsonl": read_jsonl, ".parquet": read_parquet}
    if kind not in (*TEXT, *tables):
        known = ", ".join((*TEXT[1:], *tables))
        raise DataError(f"{path}: can't read {kind} files; name or convert it to one of {known}, each also .gz")
    yield from not_blank(read_text(path, document) if kind in TEXT else tables[kind](path, column), counts)


def not_blank(texts: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """The texts that hold more than whitespace; counts all as `read`, the others as `blank`."""
    for text in texts:
        counts["read"] += 1
        if text and not text.isspace():
            yield text
        else:
            counts["blank"] += 1


def read_text(path: Path, document: str) -> Iterator[str]:
    """A plain text's lines, its paragraphs (parted by blank lines), or the whole of it, as `document` says."""
    if document == "line":
        yield from lines(path)
        return
    parts, size = list[str](), 0
    for line in lines(path):
        if document == "file" or not line.isspace():
            parts.append(line)
            size += len(line)
            if size > LONGEST:
                raise DataError(f"{path}: a {document} of more than {LONGEST:,} characters; try data.document=line")
        elif parts:
            yield "".join(parts)
            parts, size = [], 0
    if parts:
        yield "".join(parts)


def read_csv(path: Path, column: str, counts: Counter[str]) -> Iterator[str]:
    """The cells of one column. Rows with more or fewer cells than the header are left out and counted as `ragged`."""
    csv.field_size_limit(LONGEST)  # its own is 131,072
    rows = csv.reader(lines(path), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        index = _index(path, column, header)
        for row in rows:
            if len(row) == len(header):
                yield row[index]
            elif not any(cell.strip() for cell in row):
                yield ""
            else:
                counts.update(read=1, ragged=1)
    except csv.Error as error:
        mend = "mend the quotes or the line ends"
        raise DataError(f"{path}: line {rows.line_num}: not a csv row ({error}); {mend}") from error


def read_jsonl(path: Path, column: str) -> Iterator[str]:
    """The texts under the key `column` of one JSON object a line."""
    for number, line in enumerate(lines(path), 1):
        where = f"{path}: line {number}"
        if line.isspace():
            yield ""
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}); write one JSON object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: not a JSON object; write one JSON object a line")
        _index(where, column, list(row))
        yield _text(row[column], where, column)


def read_parquet(path: Path, column: str) -> Iterator[str]:
    """The texts in one column of a parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading parquet needs pyarrow; pip install pyarrow") from error
    row = 0
    try:
        with _open(path) as file:
            table = parquet.ParquetFile(file)
            _index(path, column, table.schema_arrow.names)
            batches = table.iter_batches(batch_size=256, columns=[column])
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            for row, value in enumerate(values, 1):
                yield _text(value, f"{path}: row {row}", column)
    except (pyarrow.ArrowException, UnicodeDecodeError, *_UNREADABLE) as error:
        raise DataError(f"{path}: can't be read after row {row}: {first_line(error)}; make the file again") from error


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends; a byte order mark is dropped."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
                if len(line) > LONGEST:
                    raise DataError(f"{path}: line {number} has more than {LONGEST:,} bytes; part it into lines")
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        mend = "convert the file, as with `iconv -f latin1 -t utf-8`"
        raise DataError(f"{path}: line {number}, byte {error.start + 1}: not UTF-8; {mend}") from error
    except _UNREADABLE as error:
        mend = "check permissions, or fetch it again"
        raise DataError(f"{path}: can't be read after line {number}: {first_line(error)}; {mend}") from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


def _index(where: Path | str, column: str, there: list[str]) -> int:
    if column not in there:
        names = ", ".join(map(repr, there[:20])) + ", ..." * (len(there) > 20)
        raise DataError(f"{where}: no column {column!r}; data.column must be one of {names or '(it has none)'}")
    return there.index(column)


def _text(value: Any, where: str, column: str) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {column!r} is {type(value).__name__}, not text; choose another data.column")
    return value or ""
