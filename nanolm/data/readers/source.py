"""One thing to read, and its bytes: a file or a member of a zip, unpacked if it is packed.

In: a path. Out: a stream of bytes that is whole or raises: a packed file that ends early, or goes on with something
else, is an error and never a shorter text. What packed it is seen from its first bytes, whatever its name. Knows
nothing of what the bytes mean.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from nanolm.errors import DataError
from nanolm.text import first_line

PACKED = (".gz", ".bz2", ".xz", ".zst")
LONGEST = 2**28  # bytes or characters of a line, a cell, a document: a packed file could hold more than the memory
_CHUNK = 2**20  # bytes unpacked at a time, where the library lets one say so
_ZIP = b"PK\x03\x04"
# what a missing, forbidden or damaged file raises; zipfile: RuntimeError for a password
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)


@dataclass(frozen=True)
class Source:
    """A file, or the `member` of a zip. Its text form is how messages call it."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def kind(self) -> str:
        """The ending of its name in lower case, without that of what packed it: `.csv` of A.CSV.GZ; or nothing."""
        name = (self.member or self.path.name).lower()
        for ending in PACKED:
            name = name.removesuffix(ending)
        return Path(name).suffix


@dataclass(frozen=True)
class ReadOptions:
    """What a user can say of files: see the fields of `data=files`, which have the same names."""

    document: str = "line"
    column: str = "text"
    format: str | None = None
    separator: str | None = None
    encoding: str | None = None
    unescape: bool = False


def is_zip(path: Path) -> bool:
    """Whether the file begins as a zip does."""
    with open(path, "rb") as file:
        return file.read(4) == _ZIP


@contextmanager
def open_source(source: Source) -> Iterator[io.BufferedReader]:
    """The bytes of a source, unpacked."""
    if source.member:
        with zipfile.ZipFile(source.path) as archive, archive.open(source.member) as file, unpacked(file) as bytes_:
            yield bytes_
    else:
        with open(source.path, "rb", buffering=0) as file, unpacked(file) as bytes_:
            yield bytes_


@contextmanager
def naming_source(source: Source, progress: Callable[[], str]) -> Iterator[None]:
    """What a damaged file raises becomes a DataError that names it, and how far it could be read."""
    try:
        yield
    except UNREADABLE as error:
        mend = "check permissions, or fetch it again"
        raise DataError(f"{source}: can't be read after {progress()}: {first_line(error)}; {mend}") from error


@contextmanager
def unpacked(file: IO[bytes]) -> Iterator[io.BufferedReader]:
    """The stream, unpacked if its first bytes say that it is packed; a file that is not packed as it is."""
    reader = io.BufferedReader(file)  # type: ignore[type-var]
    head = reader.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        yield io.BufferedReader(gzip.GzipFile(fileobj=reader))  # type: ignore[type-var]
    elif head.startswith(b"BZh"):
        yield _Stream(_frames(reader, bz2.BZ2Decompressor, _CHUNK)).buffered()
    elif head.startswith(b"\xfd7zXZ\0"):
        yield _Stream(_frames(reader, lzma.LZMADecompressor, _CHUNK, padded=True)).buffered()
    elif head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):  # a skippable frame
        yield _Stream(_frames(reader, _zstd(), None)).buffered()
    else:
        yield cast(io.BufferedReader, reader)


def _zstd() -> Callable[[], Any]:
    try:
        import zstandard
    except ImportError as error:
        raise DataError("reading .zst needs zstandard; pip install zstandard") from error

    class Frame:
        """One frame. The library's own stream reader takes a cut frame for the end of the text."""

        def __init__(self) -> None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()

        def decompress(self, data: bytes) -> bytes:
            try:
                return self._frame.decompress(data)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error

        def __getattr__(self, name: str) -> Any:  # eof, unused_data
            return getattr(self._frame, name)

    return Frame


def _frames(file: IO[bytes], start: Callable[[], Any], most: int | None, padded: bool = False) -> Iterator[bytes]:
    """The text of every frame in turn. The standard library's bz2 and lzma files stop without a word at what they
    can't read after the first, the padding that xz allows between streams too."""
    size = 2**16 if most else 2**10  # where a small input can't be told to give little, it has to be small
    frame, data = None, file.read(size)
    while data:
        if frame is None or frame.eof:
            data = data.lstrip(b"\0") if padded else data
            frame = start() if data else None
        while frame and data:
            yield frame.decompress(data, most) if most else frame.decompress(data)
            data = b""
            while most and not frame.eof and not frame.needs_input:
                yield frame.decompress(b"", most)
        data = (frame.unused_data if frame and frame.eof else b"") or file.read(size)
    if frame and not frame.eof:
        raise EOFError("the packed data ends early")


class _Stream(io.RawIOBase):
    """Blocks of bytes as a file to read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._left = blocks, memoryview(b"")

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(self, 2**16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
