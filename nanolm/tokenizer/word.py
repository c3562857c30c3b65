"""The word tokenizer. Normalised text in; out, an id per word.

Under `clean` words are what single spaces part; under `none` words, whitespace and punctuation are all pieces, so that
nothing is lost. Where the pieces begin and end is `nanolm.text`'s to say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nanolm.text import BEFORE_SPACE, join_words, split_words
from nanolm.tokenizer import pipeline
from nanolm.tokenizer.pieces import PieceConfig


@dataclass
class WordConfig(PieceConfig):
    """One token per word."""

    name: str = "word"
    cut = BEFORE_SPACE

    def split(self, text: str, normalise: str) -> list[str]:
        return split_words(text, normalise)

    def join(self, pieces: Iterable[str], normalise: str) -> str:
        return join_words(pieces, normalise)

    def pipeline(self, normalise: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        return pipeline.words(normalise)
