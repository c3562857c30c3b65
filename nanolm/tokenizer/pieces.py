"""Tokenizers whose tokens are pieces of text counted and looked up in a table: the common part of `char` and `word`.

In: normalised text, cut by the config's `split`. Out: ids; a piece that the training texts hold less than `minfreq`
times is <UNK>. Knows neither characters nor words. Plain Python: a dict look-up per piece was measured faster than the
library's Rust.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nanolm.errors import ConfigError
from nanolm.text import all_cut_up
from nanolm.tokenizer.base import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer, TokenizerConfig, ordered
from nanolm.workers import count


@dataclass
class PieceConfig(TokenizerConfig):
    """Counts pieces; those with at least `minfreq` are the vocabulary, by falling count, equal counts by text."""

    cut: ClassVar[re.Pattern[str] | None] = None  # as of Tokenizer

    def split(self, text: str, normalise: str) -> Sequence[str]:
        """Normalised text -> its pieces."""
        raise NotImplementedError

    def join(self, pieces: Iterable[str], normalise: str) -> str:
        """The inverse of `split`."""
        raise NotImplementedError

    def pipeline(self, normalise: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """`split` and `join` as the `tokenizers` library's pre_tokenizer and decoder."""
        raise NotImplementedError

    def fit(self, texts: Iterable[str], normalise: str) -> "PieceTokenizer":
        counts = count(lambda text: self.split(text, normalise), all_cut_up(texts, self.cut))
        kept = [piece for piece, n in counts.items() if n >= self.minfreq and piece not in SPECIALS]
        if not kept:
            top = max(counts.values(), default=0)
            raise ConfigError(
                f"tokenizer.minfreq={self.minfreq}: must be at most {top}, the commonest {self.name}'s count"
            )
        kept.sort(key=lambda piece: (-counts[piece], piece))
        dropped = Counter(n for n in counts.values() if n < self.minfreq)
        return PieceTokenizer(self, normalise, [*SPECIALS, *kept], dropped)

    def restore(self, normalise: str, model: dict[str, Any]) -> "PieceTokenizer":
        dropped = dict(model["nanolm"]["dropped"])
        if not all(type(n) is int and n > 0 for pair in dropped.items() for n in pair):
            raise ValueError("the counts of dropped pieces are no numbers")
        return PieceTokenizer(self, normalise, ordered(model["vocab"]), dropped)


class PieceTokenizer(Tokenizer):
    """A table of pieces; its config says how text is cut into them."""

    config: PieceConfig

    def __init__(self, config: PieceConfig, normalise: str, vocabulary: Sequence[str], dropped: dict[int, int]) -> None:
        super().__init__(config, normalise, vocabulary, dropped)
        self.cut = config.cut
        self._ids = {piece: i for i, piece in enumerate(self.vocabulary) if i >= len(SPECIALS)}

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(piece, UNK) for piece in self.config.split(text, self.normalise)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.config.join((self.vocabulary[i] for i in ids if i not in (PAD, BOS, EOS)), self.normalise)

    def unknown(self, text: str) -> list[str]:
        return [piece for piece in self.config.split(text, self.normalise) if piece not in self._ids]

    def pipeline(self) -> dict[str, Any]:
        vocab = {piece: i for i, piece in enumerate(self.vocabulary)}
        before, after = self.config.pipeline(self.normalise)
        model = {"type": "WordLevel", "vocab": vocab, "unk_token": SPECIALS[UNK]}
        return {"pre_tokenizer": before, "decoder": after, "model": model}
