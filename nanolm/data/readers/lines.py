"""Bytes to lines of text: the encoding, the byte order mark, and the ends of lines.

In: a Source. Out: lines that end with a newline, whether the file has LF, CRLF or CR; the text is UTF-8, or UTF-16 or
UTF-32 with a byte order mark, or what `encoding` says. Any other is refused with a guess of what it is. Holds one line.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from nanolm.data.readers.source import LONGEST, ReadOptions, Source, naming_source, open_source
from nanolm.errors import DataError

_FEW = 200  # lines that tell one encoding from another
HEAD = 2**16  # bytes or characters that are looked at to see what a file is
_MARKS = {  # the longer ones first: that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# those in use; where several read the same text, the first of them is named
_COMMON = "cp1252 iso8859_15 cp1250 cp1251 koi8_r gb18030 big5 shift_jis euc_jp euc_kr iso8859_2 cp1253 cp1254 cp1255"
_ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that UTF-8 has no character for


def read_lines(source: Source, options: ReadOptions) -> Iterator[str]:
    """The lines of a text file, each but perhaps the last with one newline at its end."""
    number = 0
    with _open_text(source, options, lambda: f"line {number}") as text:
        while line := text.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise DataError(f"{source}: line {number} has more than {LONGEST:,} characters; part it")
            yield line


def read_blocks(source: Source, options: ReadOptions) -> Iterator[str]:
    """The text of a file in blocks of HEAD characters, for what may stand in one long line."""
    size = 0
    with _open_text(source, options, lambda: f"character {size:,}") as text:
        while block := text.read(HEAD):
            size += len(block)
            yield block


@contextmanager
def _open_text(source: Source, options: ReadOptions, progress: Callable[[], str]) -> Iterator[io.TextIOWrapper]:
    """The file as text. What is wrong with its bytes becomes a DataError."""
    with naming_source(source, progress), open_source(source) as file:
        encoding = options.encoding or _encoding(source, file.peek(HEAD)[:HEAD])
        try:
            with io.TextIOWrapper(file, encoding, newline=None) as text:
                yield text
        except UnicodeError as error:
            raise DataError(_wrong_bytes(source, encoding, error)) from error


def _encoding(source: Source, head: bytes) -> str:
    """By the byte order mark, or else UTF-8. DataError for UTF-16 that has no mark: it is also valid UTF-8."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 8 > 1 and min(even, odd) * 4 < max(even, odd):
        guess = "utf-16-be" if even > odd else "utf-16-le"
        raise DataError(f"{source}: looks like {guess} without a byte order mark; data.encoding={guess} reads it")
    return "utf-8-sig"


def _wrong_bytes(source: Source, encoding: str, error: UnicodeError) -> str:
    """What to say of a file with bytes that its encoding has no character for: where they are, and a mend."""
    if encoding != "utf-8-sig":
        return f"{source}: not {encoding} throughout ({error.args[-1]}); give another data.encoding, or mend the file"
    with open_source(source) as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape") as text:
        lines = enumerate(iter(lambda: text.readline(LONGEST), ""), 1)
        foreign = list(islice(((number, line) for number, line in lines if not line.isascii()), _FEW))
        bad = [(number, line) for number, line in foreign if _ESCAPED.search(line)]
        bad = bad or [next((number, line) for number, line in lines if _ESCAPED.search(line))]
    number, line = bad[0]
    place = len(re.split(_ESCAPED, line, maxsplit=1)[0].encode()) + 1
    guess = guess_encoding(b"".join(line[:HEAD].encode("utf-8", "surrogateescape") for _, line in bad))
    mend = f"it looks like {guess}: data.encoding={guess} reads it" if guess else "give data.encoding, or mend the file"
    if len(bad) < len(foreign) * 3 / 4:
        mend = f"but other lines are: two encodings in one file; convert those lines{f' from {guess}' if guess else ''}"
    return f"{source}: line {number}, byte {place}: not UTF-8; {mend}"


def guess_encoding(sample: bytes) -> str | None:
    """The likeliest encoding of bytes that are no UTF-8; None where nothing fits."""
    from charset_normalizer import from_bytes  # here: 50 ms that a good file need not wait for

    best = from_bytes(sample, cp_isolation=_COMMON.split()).best()
    if best is None:
        return None
    return next((name for name in _COMMON.split() if name in best.could_be_from_charset), best.encoding)
