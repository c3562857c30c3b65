"""Parquet and Arrow files: tables stored by columns.

In: a Source and the name of the column, which may lie inside structs. Out: its texts. Holds a few hundred rows, and of
a packed file a copy on disk: these forms are read from the end. Needs pyarrow.
"""

import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
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
    arrow = _pyarrow(source)
    from pyarrow import parquet

    def batches(file: IO[bytes], path: list[str]) -> Iterator[Any]:
        # a name that isn't there would give no rows, without an error
        return parquet.ParquetFile(file).iter_batches(batch_size=ROWS, columns=[".".join(path)])

    return _texts(source, options.column, arrow, lambda file: parquet.ParquetFile(file).schema_arrow.names, batches)


def read_arrow(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The texts in one column of an Arrow file (also called Feather) or an Arrow stream."""
    arrow = _pyarrow(source)
    from pyarrow import ipc

    def batches(file: IO[bytes], path: list[str]) -> Iterator[Any]:
        table = _open_arrow(ipc, file)
        if hasattr(table, "num_record_batches"):
            yield from (table.get_batch(number) for number in range(table.num_record_batches))
            return
        yield from table
        file.seek(-len(_END), 2)
        if file.read() != _END:
            raise EOFError("the stream has no end")

    return _texts(source, options.column, arrow, lambda file: _open_arrow(ipc, file).schema.names, batches)


def _open_arrow(ipc: Any, file: IO[bytes]) -> Any:
    file.seek(0)
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return ipc.open_file(file) if is_file else ipc.open_stream(file)


def _texts(source: Source, name: str, arrow: Any, names: Any, batches: Any) -> Iterator[str]:
    """The texts of the column in every batch of rows."""
    row = 0
    try:
        with _seekable(source) as file:
            path = column_path(source, name, names(file))
            for column in (batch.column(path[0]) for batch in batches(file, path)):
                for first in range(0, len(column), ROWS):
                    for value in column.slice(first, ROWS).to_pylist():
                        row += 1
                        yield cell_text(f"{source}: row {row}", path, value)
    except (arrow.ArrowException, UnicodeDecodeError, *UNREADABLE) as error:
        raise DataError(f"{source}: can't be read after row {row}: {first_line(error)}; fetch it again") from error


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
                yield copy


def _pyarrow(source: Source) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{source}: reading it needs pyarrow; pip install pyarrow") from error
    return pyarrow
