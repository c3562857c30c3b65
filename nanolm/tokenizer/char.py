"""The character tokenizer. Normalised text in; out, an id per character (Unicode code point)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nanolm.text import ANYWHERE
from nanolm.tokenizer import pipeline
from nanolm.tokenizer.pieces import PieceConfig


@dataclass
class CharConfig(PieceConfig):
    """One token per character."""

    name: str = "char"
    cut = ANYWHERE

    def split(self, text: str, normalise: str) -> str:
        return text

    def join(self, pieces: Iterable[str], normalise: str) -> str:
        return "".join(pieces)

    def pipeline(self, normalise: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return pipeline.split({"String": ""}, "Isolated"), {"type": "Fuse"}
