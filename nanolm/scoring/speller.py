"""What an <UNK> costs: the bits to spell its word, under one character model per corpus.

In: training words that occur once. Out: bits per word, the same for every tokenizer and minfreq.
"""

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nanolm.corpus.corpus import Corpus
from nanolm.errors import RunError
from nanolm.files import fingerprint, read_json, write_json
from nanolm.locks import built_once, cached
from nanolm.text import BEFORE_SPACE, all_cut_up, split_words
from nanolm.tokenizer.base import Tokenizer
from nanolm.workers import count

UNK_WORD = "unk"  # a literal <unk> among the words of a normalised text
ORDER = 5  # of its n-grams: four characters of context
START = "\0"  # pads the contexts at a word's head; is never predicted, so a NUL in the text does no harm
END = ""  # the end marker: a symbol that no text holds


class Speller:
    """Interpolated Witten-Bell character 5-gram with end marker (Witten & Bell 1991; Chen & Goodman 1999, section 2.5).

    The bottom is 1/256 per UTF-8 byte, and the end marker takes a byte that UTF-8 never uses: so every string has a
    probability, they sum to at most 1, and with no words to learn from every byte costs 8 bits.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = sorted(words)

    @functools.cached_property
    def _continuations(self) -> dict[str, Counter[str]]:
        """Each context of 0 to 4 characters -> how often each symbol follows it."""
        grams: Counter[tuple[str, str]] = Counter()
        for word in self.words:
            grams.update(_symbols(word))
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for (context, symbol), times in grams.items():
            for start in range(ORDER):
                table[context[start:]][symbol] += times
        return dict(table)

    def bits(self, word: str) -> float:
        """-log2 of the probability of `word`, its end included."""
        return -sum(math.log2(self._probability(context, symbol)) for context, symbol in _symbols(word))

    @functools.cached_property
    def mean_bits(self) -> float:
        """What a word that occurs once costs on average; of many words a thousand, evenly spaced, are asked."""
        words = self.words[:: max(1, len(self.words) // 1000)] or [UNK_WORD]
        return sum(map(self.bits, words)) / len(words)

    def _probability(self, context: str, symbol: str) -> float:
        p = 256.0 ** -max(1, len(symbol.encode("utf-8", "surrogatepass")))
        for start in reversed(range(ORDER)):  # from the empty context to the longest
            seen = self._continuations.get(context[start:])
            if seen is None:
                break
            p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
        return p

    def save(self, path: Path) -> None:
        """Writes the words as JSON; the counts follow from them."""
        write_json(path, {"speller": 1, "words": self.words})

    @classmethod
    def load(cls, path: Path) -> "Speller":
        """Raises RunError where the file holds no speller."""
        value = read_json(path)
        words = value.get("words") if isinstance(value, dict) and value.get("speller") == 1 else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RunError(f"{path}: holds no speller; delete the file if it is in a cache, else train the run again")
        return cls(words)


def _symbols(word: str) -> list[tuple[str, str]]:
    """(context of four characters, next symbol) for each character of `word` and its end."""
    padded = START * (ORDER - 1) + word
    return [(padded[i : i + ORDER - 1], symbol) for i, symbol in enumerate([*word, END])]


def corpus_speller(corpus: Corpus) -> Speller:
    """The corpus's speller, fitted on the training words that occur once; cached beside the corpus."""

    def fit(aside: Path) -> None:
        texts = all_cut_up(corpus.texts("train"), BEFORE_SPACE)
        counts = count(lambda text: split_words(text, corpus.normalise), texts)
        Speller(word for word, times in counts.items() if times == 1).save(aside / "speller.json")

    return Speller.load(built_once(corpus.folder.parent / f"speller-{corpus.fingerprint}", fit) / "speller.json")


def spell(texts: Iterable[str], tokenizer: Tokenizer, speller: Speller, charge_unk: bool = False) -> np.ndarray:
    """Bits to spell the pieces of each text that become <UNK>: float64 per text.

    charge_unk: each literal `<unk>`, a word that was taken out of the text, costs what a rare word costs on average,
    whatever the tokenizer makes of it.
    """
    bits = functools.cache(speller.bits)

    def charge(text: str) -> float:
        taken_out = split_words(text, tokenizer.normalise).count(UNK_WORD) if charge_unk else 0
        return sum(map(bits, tokenizer.unknown(text))) + taken_out * (speller.mean_bits if taken_out else 0.0)

    return np.array([charge(text) for text in texts], dtype=np.float64)


def spelling_bits(corpus: Corpus, split: str, tokenizer: Tokenizer, cache: Path) -> np.ndarray:
    """`spell` for the documents of a split under the corpus's own speller; cached."""
    # named by the corpus' folder, not its fingerprint: rows have to be in this corpus' order
    path = cache / f"spelling-{split}-{fingerprint([corpus.folder.name, tokenizer.fingerprint])}.json"

    def compute() -> list[float]:
        return spell(corpus.texts(split), tokenizer, corpus_speller(corpus), corpus.charge_unk).tolist()  # type: ignore[no-any-return]

    return np.array(cached(path, compute))
