"""Which reader a file gets: by its name, or by what is in it where the name says nothing, or as `data.format` says.

In: a Source and ReadOptions. Out: its documents, those that hold text, counted. A new form of file is a function here
in READERS and its endings in ENDINGS.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from nanolm.data.readers.columnar import read_arrow, read_parquet
from nanolm.data.readers.delimited import read_delimited
from nanolm.data.readers.json import read_json_rows, read_jsonl
from nanolm.data.readers.lines import HEAD, read_lines
from nanolm.data.readers.source import ReadOptions, Source, naming_source, open_source
from nanolm.data.readers.text import SEPARATOR, documents_of, unescape
from nanolm.errors import DataError

READERS: dict[str, Callable[[Source, ReadOptions, Counter[str]], Iterator[str]]] = {
    "text": lambda source, options, counts: read_lines(source, options),
    "csv": read_delimited,
    "json": read_json_rows,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
ENDINGS = dict.fromkeys((".txt", ".text", ".md", ".train", ".dev", ".valid", ".test", ".raw", ".tokens"), "text")
ENDINGS |= {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
ENDINGS |= {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}


def read_documents(source: Source, options: ReadOptions, counts: Counter[str]) -> Iterator[str]:
    """The documents of one source; adds `read`, `blank` and `ragged` (csv) to `counts`."""
    kind = options.format or format_of(source)
    texts = READERS[kind](source, options, counts)
    if kind == "text":
        texts = documents_of(texts, options.document, _separator(source, options), str(source))
    elif options.document == "article":  # WikiText as the Hub has it: a row is a line
        texts = documents_of(texts, "article", None, str(source))
    yield from not_blank(map(unescape, texts) if options.unescape else texts, counts)


def not_blank(texts: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """The texts that hold more than whitespace; counts all as `read`, the others as `blank`."""
    for text in texts:
        counts["read"] += 1
        if text and not text.isspace():
            yield text
        else:
            counts["blank"] += 1


def format_of(source: Source) -> str:
    """A key of READERS. DataError for a file that is none of them."""
    with naming_source(source, lambda: "byte 0"), open_source(source) as file:
        head = file.peek(64)[:64]
    ending = source.kind
    if said := _what_else(ending, head):
        raise DataError(f"{source}: {said}")
    if ending in ENDINGS:
        return ENDINGS[ending]
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if ending:
        known = ", ".join(ENDINGS)
        mend = f"data.format={' | '.join(READERS)} says what it is"
        raise DataError(f"{source}: can't tell what {ending} files are (known are {known}); {mend}")
    return "text"


def _what_else(ending: str, head: bytes) -> str | None:
    """What to say of a file that lies where text should, by its name and its first bytes; None for text."""
    if ending in (".pkl", ".pickle", ".pt", ".pth") or re.match(rb"\x80[\2-\5]", head):
        return "is a pickle, which can run code when it is opened: nanolm opens none; give the text it was made from"
    if ending in (".tar", ".tgz", ".7z", ".rar"):
        return "is an archive; unpack it, and give the folder"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the file itself; `git lfs pull` fetches that"
    if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE) and ENDINGS.get(ending, "text") != "text":
        return "is a web page, as a failed download leaves it; fetch it again"
    return None


def read_head(source: Source, options: ReadOptions) -> list[str]:
    """The first lines of a plain text, as many as HEAD characters hold."""
    lines, size = list[str](), 0
    for line in read_lines(source, options):
        lines.append(line)
        size += len(line)
        if size > HEAD:
            break
    return lines


def _separator(source: Source, options: ReadOptions) -> str | None:
    """What parts the documents. DataError where the text's head holds such a mark and nobody has said what it is."""
    if options.separator is not None:
        return options.separator
    found = SEPARATOR.search("".join(read_head(source, options)))
    if found:
        mend = f"data.separator='{found[0]}' parts its documents there, data.separator='' takes the mark as text"
        raise DataError(f"{source}: holds {found[0]}, the mark of other programs between texts; {mend}")
    return None
