"""A look at the head of a plain text: is it read as it is meant?

In: a Source and how it will be read. Out: proposals, a line each, for a person to read. Nothing is changed by itself.
"""

import re
from itertools import pairwise

from nanolm.data.readers.read import format_of, read_head
from nanolm.data.readers.source import ReadOptions, Source
from nanolm.data.readers.text import is_title

_ENDS = ".!?…:;\"'”’)»。！？"
_GARBLED = re.compile("â€[œ\x9d™˜“”¦]|Ã[©¨¤¶¼±]")
_FEW = 10  # lines, below which nothing is said


def propose(source: Source, options: ReadOptions) -> list[str]:
    """Proposals of other values for `data.document`, where lines are documents but don't look like it."""
    if (options.format or format_of(source)) != "text":
        return []
    lines = read_head(source, options)
    garbled = _garbled(lines)
    if garbled:
        return [f"{source}: holds {garbled!r}: UTF-8 that was once read as cp1252, and saved so; mend it, as with ftfy"]
    if options.document != "line" or options.separator:
        return []
    if any(is_title(line) for line in lines[:20]) and any(line.startswith(" = = ") for line in lines):
        return [f"{source}: looks like WikiText; data.document=article makes each article a document"]
    blocks = paragraphs(lines)
    many = len(blocks) >= 3 and sum(map(len, blocks)) >= 2 * len(blocks)
    if many or is_wrapped(lines):
        mend = "data.document=paragraph takes paragraphs" if len(blocks) > 1 else ""
        mends = " and ".join(filter(None, [mend, "data.document=file the whole file"]))
        why = "paragraphs of several lines" if many else "lines that break within sentences"
        return [f"{source}: each line is a document, but it has {why}; {mends}"]
    return []


def _garbled(lines: list[str]) -> str:
    """A quotation mark or a letter as it looks after such a mistake, if there are several; nothing otherwise."""
    found = _GARBLED.findall("".join(lines))
    return found[0] if len(found) >= 3 else ""


def paragraphs(lines: list[str]) -> list[list[str]]:
    """The lines between blank lines."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.isspace():
            found.append([])
        else:
            found[-1].append(line)
    return [block for block in found if block]


def is_wrapped(lines: list[str]) -> bool:
    """Whether an editor broke the lines: of like length, and many go on in lower case where the last one stopped."""
    real = [line.strip() for line in lines if not line.isspace()]
    if len(real) < _FEW:
        return False
    lengths = sorted(map(len, real))
    half, most = lengths[len(lengths) // 2], lengths[len(lengths) * 9 // 10]
    alike = 40 <= most <= 120 and half >= 0.8 * most
    going_on = sum(not line.endswith(tuple(_ENDS)) and after[0].islower() for line, after in pairwise(real))
    return alike and going_on > len(real) / 3
