"""Bits per byte: the score that compares runs across vocabularies.

In: a model's nats per token, the documents' bytes, and the bits to spell what became <UNK>. Out: a `Score`.
Bytes are those of the normalised text plus one newline per document, which <EOS> pays for. Every <UNK> also pays to be
spelled by the corpus's one `Speller`, the same for every tokenizer and minfreq: without that, deleting words would be
free. Spellings of known words keep their mass, so the total is an upper bound on a proper code length.
"""

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanolm.batches import IGNORE, evaluation_batches
from nanolm.config import RunError
from nanolm.cores import count
from nanolm.corpus import Corpus, Encoded
from nanolm.data.base import DataConfig
from nanolm.files import built_once, fingerprint, locked, read_json, write_json
from nanolm.model.transformer import Transformer
from nanolm.text import pieces
from nanolm.tokenizer.base import UNK, Tokenizer

ORDER = 5  # the speller's: four characters of context
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
        counts = count(lambda text: pieces(text, corpus.normalise), corpus.texts("train"))
        Speller(word for word, times in counts.items() if times == 1).save(aside / "speller.json")

    return Speller.load(built_once(corpus.folder.parent / f"speller-{corpus.fingerprint}", fit) / "speller.json")


def spell(texts: Iterable[str], tokenizer: Tokenizer, speller: Speller) -> np.ndarray:
    """Bits to spell the pieces of each text that become <UNK>: float64 per text."""
    bits = functools.cache(speller.bits)
    return np.array([sum(map(bits, tokenizer.unknown(text))) for text in texts], dtype=np.float64)


def spelling_bits(corpus: Corpus, split: str, tokenizer: Tokenizer, cache: Path) -> np.ndarray:
    """`spell` for the documents of a split under the corpus's own speller; cached."""
    # named by the corpus' folder, not its fingerprint: rows have to be in this corpus' order
    path = cache / f"spelling-{split}-{fingerprint([corpus.folder.name, tokenizer.fingerprint])}.json"
    return np.array(cached(path, lambda: spell(corpus.texts(split), tokenizer, corpus_speller(corpus)).tolist()))


def floor_bpb(data: DataConfig, corpus: Corpus, split: str) -> float | None:
    """The bits per byte that no model beats on average over a split, where the data knows them; cached."""
    path = corpus.folder.parent / f"floor-{split}-{fingerprint([corpus.fingerprint, data.signature()])}.json"
    return cached(path, lambda: floor(data, corpus.texts(split), corpus.nbytes(split)))


def floor(data: DataConfig, texts: Iterable[str], nbytes: np.ndarray) -> float | None:
    """Exact bits per byte of normalised texts; None where the data doesn't know one of them, or there are none."""
    total = 0.0
    for text in texts:
        if (bits := data.floor_bits(text)) is None:
            return None
        total += bits
    return total / int(nbytes.sum()) if len(nbytes) else None


def cached(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value in `path`, computed by the first of the parallel jobs that ask for it."""
    if not path.exists():
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                write_json(path, compute())
    return read_json(path)


@dataclass
class Score:
    """The sums over one split. `bits` holds what each document costs, spelling included."""

    bits: np.ndarray  # float64 (documents,)
    spelling: np.ndarray  # float64 (documents,): the part of `bits` that spells <UNK>
    bytes: np.ndarray  # int64 (documents,): UTF-8 bytes + 1
    tokens: int  # scored: <EOS> and <UNK> too, <BOS> not
    nats: float
    unknown: int  # tokens that are <UNK>

    @property
    def bpb(self) -> float:
        """Bits per byte; nan without documents."""
        return float(self.bits.sum() / self.bytes.sum()) if len(self.bytes) else math.nan

    @property
    def loss(self) -> float:
        """Nats per token: comparable within one tokenizer only."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Per token: comparable within one tokenizer only. inf where it overflows."""
        return math.exp(self.loss) if not self.loss > 709 else math.inf

    @property
    def unk_rate(self) -> float:
        """The share of the scored tokens that are <UNK>."""
        return self.unknown / self.tokens if self.tokens else math.nan


def score_nats(nats: np.ndarray, encoded: Encoded, nbytes: np.ndarray, spelling: np.ndarray) -> Score:
    """The score of `nats`, one for each of `encoded.ids` (0 at each <BOS>)."""
    per_document = np.add.reduceat(nats, encoded.offsets[:-1], dtype=np.float64) if len(encoded) else np.zeros(0)
    return Score(
        bits=per_document / math.log(2) + spelling,
        spelling=spelling,
        bytes=nbytes,
        tokens=len(encoded.ids) - len(encoded),
        nats=float(per_document.sum()),
        unknown=int((encoded.ids == UNK).sum()),
    )


def token_nats(model: Transformer, encoded: Encoded, context: int, device: torch.device, precision: str) -> np.ndarray:
    """float32 (ids,): -ln P of every token but <BOS>, each scored once; dropout is off meanwhile.

    precision: fp32 or bf16.
    """
    nats = np.zeros(len(encoded.ids), np.float32)
    following = np.array(encoded.offsets[:-1]) + 1  # the next place to be scored in each document
    training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for batch in evaluation_batches(encoded, context):
                ids, targets = (torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets))
                rows, real = model.nats(ids, targets).cpu().numpy(), batch.targets != IGNORE
                for document, row, scored in zip(batch.documents, rows, real, strict=True):  # a document's in order
                    place = following[document]
                    following[document] += scored.sum()
                    nats[place : following[document]] = row[scored]
    finally:
        model.train(training)
    return nats
