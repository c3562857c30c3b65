"""What every dataset has in common: the config of normalisation and split, and the one method that yields documents.

In: the group `data` of the config. Out: raw documents in order, and the identity of their source.
Doesn't normalise, split or store: that is `corpus.py`. A new dataset is one file here and one YAML in `conf/data/`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import MISSING, between, check_name, knob, one_of, plain
from nanolm.errors import ConfigError
from nanolm.text import MODES


@dataclass
class DataConfig:
    """Documents -> normalised -> at most `maxlen` words -> no duplicates -> `limit` of them -> train, val, test."""

    name: str = MISSING
    normalise: str = knob("clean", "clean | none: lowercase words without digits, or the text as it is")
    split: str = knob("hash", "hash | tail: by the text, or the last documents are val and there is no test")
    val: float = knob(0.05, "share of the documents that choose among runs")
    test: float = knob(0.05, "share of the documents that are scored once, at the end")
    dedup: bool = knob(True, "leaves out documents that occurred before")
    charge_unk: bool = knob(False, "scores a literal <unk> of the text as the rare word that it stands for")
    maxlen: Optional[int] = knob(None, "words of a document at most, after normalisation; null: any number")
    limit: Optional[int] = knob(None, "every k-th document, so that so many remain; null: all")

    def __post_init__(self) -> None:
        check_name("data", self)
        one_of("data.normalise", self.normalise, MODES)
        one_of("data.split", self.split, ("hash", "tail"))
        between("data.val", self.val, 0, 1)
        between("data.test", self.test, 0, 1)
        between("data.maxlen", self.maxlen, 1)
        between("data.limit", self.limit, 1)
        held_out = self.val + self.test if self.split == "hash" else self.val
        if held_out >= 1:
            raise ConfigError(f"data.val={self.val}: with data.test={self.test} nothing is left to train on; lower one")

    @property
    def label(self) -> str:
        """What a user calls it: the option of `data=`."""
        return self.name

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """Raw documents in order, blank ones left out; adds to `counts` what was `read` and what was `blank`."""
        raise NotImplementedError

    def official_splits(self, counts: Counter[str]) -> dict[str, Iterator[str]]:
        """The documents of `train`, `val` and perhaps `test` where the text comes split; none: `split` says how."""
        return {}

    def advice(self, counts: Counter[str]) -> list[str]:
        """What there is to say of the documents once they are read, a line each: a better way to read them."""
        return []

    def to_fetch(self) -> list[str]:
        """The addresses that reading the documents would fetch from."""
        return []

    def signature(self) -> dict[str, Any]:
        """JSON-able identity of the documents: config and, for files, path, size and time."""
        return plain(self)

    def floor_bits(self, text: str) -> Optional[float]:
        """The exact -log2 probability of a normalised document and its end; None where nobody knows it."""
        return None
