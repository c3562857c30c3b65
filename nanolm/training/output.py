"""What a training prints can't end it: text that nobody reads any more is dropped. What takes long is said.

In: sys.stdout and sys.stderr. Out: the same, for as long as somebody reads them.
"""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

MOMENT = 2.0  # seconds


class LastingStream:
    """A text stream for which a closed pipe, a closed terminal and a full disk are no errors."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes what can be written."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        try:
            self.stream.flush()
        except OSError as error:
            self._lost(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _lost(self, error: OSError) -> None:
        """From here on everything goes to the null device, also what the program's end flushes; a disk may recover."""
        if error.errno == errno.ENOSPC:
            return
        with suppress(OSError, ValueError):  # a stream without a descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Inside, printing never fails."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = (LastingStream(stream or nowhere) for stream in before)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stdout, sys.stderr = before


@contextmanager
def announced(what: str, after: float = MOMENT) -> Iterator[None]:
    """Prints what is being done inside, should it take longer than `after` seconds."""
    timer = threading.Timer(after, print, (f"{what} ...",), {"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
