"""Lines to documents: each line, paragraph or WikiText article, what stands between separators, or the whole file.

In: lines. Out: documents. Holds one document at a time. Knows no files.
"""

import re
from collections.abc import Iterable, Iterator

from nanolm.data.readers.source import LONGEST
from nanolm.errors import DataError

DOCUMENTS = ("line", "paragraph", "article", "file")
# what other programs put between texts, whose first lines are enough to see it
SEPARATOR = re.compile(r"<\|[a-zA-Z_]+\|>|</s>|<eos>|<EOS>")
_ARTICLE = re.compile(r" ?= [^=](?:.*[^=])? = ?\n?")
_ESCAPE = re.compile(r" @([-,.])@ ")


def documents_of(lines: Iterable[str], document: str, separator: str | None, where: str) -> Iterator[str]:
    """The documents that the lines hold, as `document` says, or parted by `separator` where there is one."""
    if separator:
        parts = _separated(lines, separator)
    elif document == "line":
        yield from lines
        return
    else:
        parts = {"paragraph": _paragraphs, "article": _articles, "file": _whole}[document](lines)
    kept, size = list[str](), 0
    for part in parts:
        if part is not None:
            kept.append(part)
            size += len(part)
            if size > LONGEST:
                raise DataError(f"{where}: a document of more than {LONGEST:,} characters; try data.document=line")
        elif kept:
            yield "".join(kept)
            kept, size = [], 0
    if kept:
        yield "".join(kept)


# Each gives the parts of a document, and None where a document ends.


def _whole(lines: Iterable[str]) -> Iterator[str | None]:
    yield from lines


def _paragraphs(lines: Iterable[str]) -> Iterator[str | None]:
    for line in lines:
        yield None if line.isspace() else line


def _articles(lines: Iterable[str]) -> Iterator[str | None]:
    """An article begins at ` = Title = ` after a blank line; ` = = Section = = ` stands inside one."""
    blank, begun = True, False
    for line in lines:
        if blank and is_title(line):
            yield None
        blank = not line or line.isspace()
        begun = begun or not blank
        if begun:
            yield line if line.endswith("\n") else f"{line}\n"


def _separated(lines: Iterable[str], separator: str) -> Iterator[str | None]:
    for line in lines:
        first, *others = line.split(separator)
        if first:
            yield first
        for other in others:
            yield None
            if other not in ("", "\n"):  # the separator had a line of its own
                yield other


def is_title(line: str) -> bool:
    """Whether the line is ` = Title = `."""
    return bool(_ARTICLE.fullmatch(line))


def unescape(text: str) -> str:
    """`0 @.@ 7` as `0.7`, `red @-@ tipped` as `red-tipped`: WikiText parts signs inside numbers and words so."""
    return _ESCAPE.sub(r"\1", text)
