"""Text to normalised text, and normalised text to words.

In: any string, and a mode (`clean` or `none`). Out: the text that every tokenizer sees, the same for all of them.
Knows no files, no vocabulary, no specials. Only the standard library.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

MODES = ("clean", "none")
PART = 2**20  # characters
BEFORE_SPACE = re.compile(r"(?<=\w)[ \n]")  # that ends a word: no word and no token of bpe reaches over its beginning
ANYWHERE = re.compile("")

_ENDS = ".!?…。！？"  # each becomes the word "."
_APOSTROPHES = "'’‘ʼ`´′＇"  # vanish, so that "don't" stays one word: "dont"
# [1], [note 2], [a], [citation needed]
_CITATION = re.compile(r"\[(?:(?:note |nb )?\d{1,9}|[a-z]|[a-z ]{1,40} needed)\]")
_DOTS = re.compile(r"\.(?: \.)+")
_PIECE = re.compile(r"\w+|\n|[^\S\n]+|[^\w\s]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _CleanTable(dict[int, str | None]):
    """What `clean` makes of a lowercase character, decided at its first sight: itself, ".", " " or None (nothing)."""

    def __missing__(self, code: int) -> str | None:
        self[code] = self._image(chr(code))
        return self[code]

    @staticmethod
    def _image(char: str) -> str | None:
        kind = unicodedata.category(char)
        selector = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"  # of an emoji
        if char in _ENDS:
            return "."
        if char in _APOSTROPHES or selector or kind[0] == "N" or kind in ("Cf", "Me"):  # digits; soft hyphens, joiners
            return None
        return char if kind[0] in "LM" else " "  # letters with their marks; all else parts words


_TABLE = _CleanTable()


def normalise(text: str, mode: str) -> str:
    """The text as the corpus holds it; applying it twice changes nothing more.

    `clean` is the original's cleaning: lowercase; citation marks and digits removed; sentence ends are the word ".",
    a run of them one; apostrophes vanish ("don't" -> "dont"); other punctuation, hyphens too, parts words
    ("black-and-white" -> "black and white"); letters of any script stay, composed (NFC); spaces are single,
    with none at the ends. `none` leaves the text as it is, but for what no text needs: the ends of lines become
    newlines, byte order marks at the head vanish, and lone surrogates, which no file can hold, become U+FFFD.
    """
    if mode == "none":
        text = text.lstrip("\ufeff")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return _SURROGATE.sub("\ufffd", text)
    text = _CITATION.sub("", text.lower()).translate(_TABLE)
    text = " ".join(unicodedata.normalize("NFC", text).replace(".", " . ").split())
    return _DOTS.sub(".", text) if ". ." in text else text  # the regex is slow where there is nothing to find


def escape_controls(text: str) -> str:
    """The text with what a terminal might obey (escapes, carriage returns, turns of direction) spelled out."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """What an exception says in its first line, or else its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def cut_up(text: str, cut: re.Pattern[str] | None) -> Iterator[str]:
    """The text in parts of about PART characters, each up to where `cut` matches; None: the whole."""
    start = 0
    while start < len(text):
        found = cut.search(text, start + PART) if cut and len(text) > start + PART else None
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


def counted(count: int, noun: str) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def all_cut_up(texts: Iterable[str], cut: re.Pattern[str] | None) -> Iterator[str]:
    """The parts of every text; a short one is its own."""
    for text in texts:
        if len(text) <= PART:
            yield text
        else:
            yield from cut_up(text, cut)


def split_words(text: str, mode: str) -> list[str]:
    """The words of a normalised text. `none`: words, single newlines, runs of other whitespace, single signs.

    A space at the head of `clean` text is that of a part which goes on.
    """
    if mode == "none":
        return _PIECE.findall(text)
    return text.removeprefix(" ").split(" ") if text else []


def join_words(pieces: Iterable[str], mode: str) -> str:
    """The text whose `split_words` these are."""
    return ("" if mode == "none" else " ").join(pieces)
