"""What cleaning and deduplication took from a corpus, in words for the user.

In: raw documents beside their normalised texts. Out: a line each for what is more than a trifle, with an example and
the key that keeps it. Changes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nanolm.data.base import DataConfig
from nanolm.text import counted, normalise

_SHARE = 0.2  # of the characters or documents, below which nothing is said
_SHOWN = 40  # characters of an example
_LOOKED_AT = 10_000  # documents
_KEPT = "data.normalise=none keeps"


@dataclass
class Losses:
    """Sums over documents, and the first document of each kind."""

    before: int = 0  # characters
    after: int = 0
    emptied: str = ""
    shortened: str = ""  # to less than half
    with_unk: int = 0  # documents that hold a literal <unk>

    def count(self, documents: Sequence[str], texts: Sequence[str]) -> None:
        """Adds documents and what became of each."""
        self.before += sum(map(len, documents))
        self.after += sum(map(len, texts))
        self.with_unk += sum("<unk>" in document for document in documents)
        pairs = list(zip(documents, texts, strict=True))
        if not self.emptied and not all(texts):
            self.emptied = next((document for document, text in pairs if document and not text), "")
        if not self.shortened:
            self.shortened = next((doc for doc, text in pairs if text and 2 * len(text) < len(doc)), "")

    def add(self, other: "Losses") -> None:
        """Adds those of later documents."""
        self.before += other.before
        self.after += other.after
        self.with_unk += other.with_unk
        self.emptied = self.emptied or other.emptied
        self.shortened = self.shortened or other.shortened


def explain(config: DataConfig, counts: Counter[str], losses: Losses) -> list[str]:
    """What was lost, each in a line."""
    notes = list[str]()
    if counts["emptied"] > _SHARE * counts["read"]:
        gone = f"{counted(counts['emptied'], 'document')}, as {_shown(losses.emptied)}"
        notes.append(f"cleaning left nothing of {gone}; {_KEPT} them")
    elif losses.before - losses.after > _SHARE * losses.before and losses.shortened:
        share = 1 - losses.after / losses.before
        clean = _shown(normalise(losses.shortened, config.normalise))
        example = f"of {_shown(losses.shortened)} it left {clean}"
        notes.append(f"cleaning took {share:.0%} of the text: {example}; {_KEPT} it")
    if config.normalise != "none" and counts["duplicate"] > _SHARE * counts["read"]:
        notes += _made_equal(config, counts["duplicate"])
    if losses.with_unk and not config.charge_unk:
        there = f"a literal <unk> in {counted(losses.with_unk, 'document')}, for words that somebody took out"
        notes.append(f"{there}: scored as text, it flatters; data.charge_unk=true adds what a rare word costs")
    return notes


def _made_equal(config: DataConfig, duplicates: int) -> list[str]:
    """A line if documents that differ became equal: the first of the source are read once more to find two of them."""
    first = dict[str, str]()
    for documents in (config.official_splits(Counter()) or {"": config.documents(Counter())}).values():
        for document in islice(documents, _LOOKED_AT):
            raw = document.strip()
            other = first.setdefault(normalise(document, config.normalise), raw)
            if other != raw:
                pair = f"{_shown(other)} and {_shown(raw)}"
                equal = f"cleaning made {counted(duplicates, 'document')} equal to others"
                return [f"{equal}, as {pair}; {_KEPT} them apart"]
    return []


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
