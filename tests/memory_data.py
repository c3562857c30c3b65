"""Documents from memory, for the tests of the corpus."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from nanolm.corpus.corpus import SPLITS, Corpus
from nanolm.data.base import DataConfig

WORDS = ["ann", "bob", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
MANY = [f"{a} saw {b} . {c} ran ." for a in WORDS for b in WORDS for c in WORDS]


@dataclass
class Memory(DataConfig):
    """Documents out of a list."""

    raw: list[str] = field(default_factory=list)
    reads = 0

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        type(self).reads += 1
        counts["read"] += len(self.raw)
        yield from self.raw


def everything(corpus: Corpus) -> dict[str, list[str]]:
    return {split: list(corpus.texts(split)) for split in SPLITS}
