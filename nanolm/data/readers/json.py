"""JSON: an object a line (jsonl, ndjson), or a file that holds an array or one object after the other.

In: a Source and the name of the column, which may lie inside objects. Out: its texts. Rows may also be plain strings.
Holds one row, or a few of a file without lines.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from nanolm.data.readers.cells import row_text
from nanolm.data.readers.lines import read_blocks, read_lines
from nanolm.data.readers.source import LONGEST, ReadOptions, Source
from nanolm.errors import DataError

_BLANK = " \t\n\r"


def read_jsonl(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The texts under the key `column`, one row a line."""
    for number, line in enumerate(read_lines(source, options), 1):
        line = line.strip(f"{_BLANK}\ufeff")  # a mark stands inside where files were put together
        if not line:
            yield ""
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            mend = (
                "data.format=json reads rows of several lines" if line in ("[", "{") else "write one JSON object a line"
            )
            raise DataError(f"{source}: line {number}: not JSON ({error}); {mend}") from error
        text = row.get(options.column) if isinstance(row, dict) else row
        yield text if isinstance(text, str) else _text(f"{source}: line {number}", options.column, row)


def _text(where: str, column: str, row: Any) -> str:
    """The text of a row that isn't simply there."""
    if not isinstance(row, dict):
        mend = "data.format=json reads an array" if isinstance(row, list) else "write one JSON object a line"
        raise DataError(f"{where}: not a JSON object; {mend}")
    return row_text(where, column, row)


def read_json_rows(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The texts under the key `column` of an array's objects, or of objects that follow each other."""
    values = _Values(source, options)
    array = values.peek() == "["
    if array:
        values.skip()
    while values.peek() not in ("", "]"):
        row = values.next()
        yield row_text(f"{source}: row {values.row}", options.column, row)
        if array and values.peek() == ",":
            values.skip()
        elif array:
            break
    if array and values.peek() != "]":
        raise DataError(f"{source}: ends or breaks off after row {values.row}, without a ]; fetch it again or mend it")


class _Values:
    """The JSON values of a file, each as soon as it is read whole."""

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self.source, self.row = source, 0
        self._decode, self._blocks = json.JSONDecoder().raw_decode, read_blocks(source, options)
        self._text, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is no space; nothing at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read_more()

    def skip(self) -> None:
        """Leaves out the character that `peek` gave."""
        self._at += 1

    def next(self) -> Any:
        """The value that begins where `peek` is."""
        self.row += 1
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number at the end of what is read may go on
                    self._at = end
                    return value
            except (ValueError, RecursionError) as error:
                size, place = len(self._text) - self._at, getattr(error, "pos", self._at)
                cut = place > len(self._text) - 64 or str(error).startswith("Unterminated string")
                if self._ended or not cut or size > LONGEST:
                    raise DataError(f"{self.source}: row {self.row}: not JSON ({error}); mend the file") from error
            self._read_more()

    def _read_more(self) -> None:
        """As much again as is waiting, so that a long row is tried a few times only."""
        parts, size = [self._text[self._at :]], 0
        for block in self._blocks:
            parts.append(block)
            size += len(block)
            if size > len(parts[0]):
                break
        self._text, self._at, self._ended = "".join(parts), 0, size == 0
