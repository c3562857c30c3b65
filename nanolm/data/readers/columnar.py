"""Parquet and Arrow files: tables stored by columns.

In: a Source and the name of the column, which may lie inside structs. Out: its texts. Holds a few hundred rows, and of
a packed file a copy on disk: these forms are read from the end. Needs pyarrow.
"""

import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from nanolm.data.readers.cells import cell_text, column_path
from nanolm.data.readers.source import UNREADABLE, ReadOptions, Source, open_source
from nanolm.errors import DataError
from nanolm.text import first_line

ROWS = 256  # as Python values at a time
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream; pyarrow takes the end of the file for it too


def read_parquet(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The texts in one column of a parquet file."""
    return _texts(source, options.column, _open_parquet)


def read_arrow(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The texts in one column of an Arrow file (also called Feather) or an Arrow stream."""
    return _texts(source, options.column, _open_arrow)


Table = tuple[Any, Callable[[list[str]], Iterator[Any]]]  # its schema, and the batches of rows that hold a column


def _open_parquet(file: IO[bytes]) -> Table:
    from pyarrow import parquet

    table = parquet.ParquetFile(file, buffer_size=2**16, pre_buffer=False, page_checksum_verification=True)
    return table.schema_arrow, lambda path: table.iter_batches(batch_size=ROWS, columns=[".".join(path)])


def _open_arrow(file: IO[bytes]) -> Table:
    from pyarrow import ipc

    is_stream = file.peek(6)[:6] != b"ARROW1"  # type: ignore[attr-defined]
    table = ipc.open_stream(file) if is_stream else ipc.open_file(file)

    def batches(path: list[str]) -> Iterator[Any]:
        if not is_stream:
            yield from (table.get_batch(number) for number in range(table.num_record_batches))
            return
        yield from table
        file.seek(-len(_END), 2)
        if file.read() != _END:
            raise EOFError("the stream has no end")

    return table.schema, batches


def _texts(source: Source, column: str, open_table: Callable[[IO[bytes]], Table]) -> Iterator[str]:
    """The texts of the column in every batch of rows."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{source}: reading it needs pyarrow; pip install pyarrow") from error
    row = 0
    try:
        with _seekable(source) as file:
            schema, batches = open_table(file)
            path = _schema_path(source, column, schema)
            for values in (batch.column(path[0]) for batch in batches(path)):
                for first in range(0, len(values), ROWS):
                    for value in values.slice(first, ROWS).to_pylist():
                        row += 1
                        yield cell_text(f"{source}: row {row}", path, value)
    except (pyarrow.ArrowException, UnicodeDecodeError, *UNREADABLE) as error:
        raise DataError(f"{source}: can't be read after row {row}: {first_line(error)}; fetch it again") from error


def _schema_path(source: Source, column: str, schema: Any) -> list[str]:
    """The names that lead to the column; of one that isn't there, parquet would give no rows without an error."""
    path = column_path(source, column, schema.names)
    kind = schema.field(path[0]).type
    for name in path[1:]:
        if not hasattr(kind, "fields"):
            break
        names = [field.name for field in kind.fields]
        column_path(source, name, names)
        kind = kind.field(name).type
    return path


@contextmanager
def _seekable(source: Source) -> Iterator[IO[bytes]]:
    """The file itself, or an unpacked copy that vanishes at the end."""
    with open_source(source) as file:
        if isinstance(file.raw, io.FileIO):
            yield file
        else:
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(file, copy)
                copy.seek(0)
                yield io.BufferedReader(copy)  # type: ignore[type-var]
