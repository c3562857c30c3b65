"""The character tokenizer. Normalised text in; out, an id per character (Unicode code point)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nanolm.tokenizer import library
from nanolm.tokenizer.pieces import PieceConfig, PieceTokenizer


class CharTokenizer(PieceTokenizer):
    """One token per character."""

    @classmethod
    def split(cls, text: str, normalise: str) -> str:
        return text

    @classmethod
    def join(cls, pieces: Iterable[str], normalise: str) -> str:
        return "".join(pieces)

    @classmethod
    def pre_tokenizer(cls, normalise: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return library.split({"String": ""}, "Isolated"), {"type": "Fuse"}


@dataclass
class CharConfig(PieceConfig):
    """One token per character."""

    name: str = "char"
    tokenizer = CharTokenizer
