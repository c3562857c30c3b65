"""What `nanolm.text` does, said to the `tokenizers` library, so that others read raw text by tokenizer.json as we do.

In: a mode of normalisation. Out: JSON-able parts. Identity on text that is already normalised, and equal to
`text.normalise` on raw text, but for characters that Unicode gained after this Python's tables and a capital sigma
beside a mark. Nothing here runs when nanolm itself encodes.
"""

import re
import sys
from functools import cache
from typing import Any


def normalizer(mode: str) -> dict[str, Any]:
    """`text.normalise` as a normalizer."""
    if mode == "none":
        return {"type": "Sequence", "normalizers": [_replace(r"\A\x{feff}+", ""), _replace(r"\r\n?", "\n")]}
    steps = [
        _replace(r"(?<=\p{L})Σ(?!\p{L})", "ς"),  # Python's lower() knows the final sigma, the library's doesn't
        {"type": "Lowercase"},
        _replace(r"\[(?:(?:note |nb )?\d{1,9}|[a-z]|[a-z ]{1,40} needed)\]", ""),
        _replace("[!?…。！？]", "."),
        _replace(r"['’‘ʼ`´′＇\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}\p{N}\p{Cf}\p{Me}]", ""),
        _replace(r"[^\p{L}\p{M}.]", " "),
        {"type": "NFC"},
        _replace(" +", " "),
        _replace(r"(?: ?\.)+ ?", " . "),
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    return {"type": "Sequence", "normalizers": steps}


def words(mode: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """`split_words` and `join_words` as a pre_tokenizer and a decoder (None: tokens are joined by single spaces)."""
    if mode == "clean":
        return split({"String": " "}, "Removed"), None
    word, space = _ranges(r"\w+"), _ranges(r"[^\S\n]+")
    return split({"Regex": rf"[{word}]+|\n|[{space}]+|[^{word}{space}\n]"}, "Isolated"), {"type": "Fuse"}


def split(pattern: dict[str, str], behavior: str) -> dict[str, Any]:
    """A pre_tokenizer that cuts at `pattern`."""
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


@cache
def _ranges(pattern: str) -> str:
    """The characters that `pattern` matches in this Python, as ranges: the library's own \\w and \\s are other sets."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    return "".join(f"\\x{{{run.start():x}}}-\\x{{{run.end() - 1:x}}}" for run in re.finditer(pattern, every))
