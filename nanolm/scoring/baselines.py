"""What a model has to beat: uniform, unigram, a Kneser-Ney 5-gram, gzip and xz, in bits per byte of the same bytes.

In: the encoded splits of a corpus, and its texts. Out: {split: {baseline: bits per byte}}, cached.
The n-gram models see the run's own tokens and pay for <UNK> as models do (see `speller.py`). Knows no model.
"""

import lzma
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nanolm.corpus.corpus import Corpus, Encoded, encode_corpus
from nanolm.files import fingerprint
from nanolm.locks import cached
from nanolm.runs.run import Run
from nanolm.scoring.score import score_nats
from nanolm.scoring.speller import spelling_bits
from nanolm.tokenizer.base import BOS, Tokenizer

Scores = dict[str, dict[str, float]]  # {split: {baseline: bits per byte}}
Scored = tuple[Encoded, np.ndarray, np.ndarray]  # a split, its bytes and its spelling bits per document
ORDERS = {"uniform": 0, "unigram": 1, "kneser_ney_5": 5}
FALLBACK = (0.0, 0.5, 1.0, 1.5)  # discounts where the counts are too few to estimate them


@dataclass
class Level:
    """The n-grams of one length n. A gram's id is its row; context ids are the rows of the level below."""

    keys: np.ndarray  # int64 (grams,), ascending: context id * vocabulary + token
    counts: np.ndarray  # int64 (grams,): as seen, or in how many contexts
    contexts: np.ndarray  # int64 (grams,)
    ncontexts: int

    def __post_init__(self) -> None:
        self.discounts = _discounts(self.counts)
        self.totals = np.bincount(self.contexts, self.counts, self.ncontexts)
        taken = np.bincount(self.contexts, self.discounts[np.minimum(self.counts, 3)], self.ncontexts)
        self.backoff = np.divide(taken, self.totals, out=np.ones_like(taken), where=self.totals > 0)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The id of each key's gram, -1 where it was never seen."""
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)


class KneserNey:
    """Interpolated modified Kneser-Ney over token ids (Chen & Goodman 1999, section 3), closed vocabulary.

    Contexts begin at <BOS>; grams that begin with <BOS> keep their plain counts, since nothing stands before them.
    The bottom is uniform over every token that can follow: all but <PAD> and <BOS>. Order 0 is that uniform
    distribution alone, order 1 a unigram.
    """

    def __init__(self, train: Encoded, vocab_size: int, order: int = 5) -> None:
        self.vocab_size = vocab_size
        ids, place = _flat(train)
        grams = np.zeros_like(ids)  # the id of the (n-1)-gram that ends at each place: at first, of the empty one
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # per n: keys, counts, which begin with <BOS>
        for n in range(1, order + 1):
            here = np.flatnonzero(place >= n - 1)
            keys, first, rows, counts = np.unique(
                grams[here - 1] * vocab_size + ids[here], return_index=True, return_inverse=True, return_counts=True
            )
            if n == 1:
                counts[keys == BOS] = 0  # a context, never predicted
            else:  # now the level below can be counted anew: after how many different tokens was each gram seen?
                below, seen, headed = found[-1]
                varied = np.bincount(grams[here[first]], minlength=len(below))
                found[-1] = (below, np.where(headed, seen, varied), headed)
            found.append((keys, counts, place[here[first]] == n - 1))
            grams = np.full_like(ids, -1)
            grams[here] = rows
        self.levels: list[Level] = []
        for keys, counts, _ in found:
            ncontexts = len(self.levels[-1].keys) if self.levels else 1
            self.levels.append(Level(keys, counts, keys // vocab_size, ncontexts))

    def nats(self, encoded: Encoded) -> np.ndarray:
        """-ln P of every token given its document so far: float64 (ids,), 0 at <BOS>."""
        ids, place = _flat(encoded)
        p = np.full(len(ids), 1 / (self.vocab_size - 2))
        grams = np.zeros_like(ids)
        for n, level in enumerate(self.levels, start=1):
            contexts = np.where(place >= n - 1, np.roll(grams, 1), -1)
            grams = np.where(contexts >= 0, level.find(contexts * self.vocab_size + ids), -1)
            counts = np.where(grams >= 0, level.counts[grams], 0)
            kept = np.maximum(counts - level.discounts[np.minimum(counts, 3)], 0)
            known = (contexts >= 0) & (level.totals[contexts] > 0)
            p = np.where(known, kept / np.maximum(level.totals[contexts], 1) + level.backoff[contexts] * p, p)
        return np.where(place > 0, -np.log(p), 0.0)


def _flat(encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """All ids as int64, and the place of each in its document (0 is <BOS>)."""
    starts, lengths = encoded.offsets[:-1], np.diff(encoded.offsets)
    return encoded.ids.astype(np.int64), np.arange(len(encoded.ids)) - np.repeat(starts, lengths)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from a count of 0, 1, 2, and 3 or more (Chen & Goodman 1999, equation 26)."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return np.array(FALLBACK)
    y = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if (found[1:] > 0).all() else np.array(FALLBACK)


def compression(train: Sequence[str], splits: Mapping[str, Sequence[str]]) -> Scores:
    """{split: {baseline: bits per byte}} of the newline-joined texts: gzip, xz, and xz that has read `train` before."""
    trained, figures = xz_bytes(train), {}
    for split, texts in splits.items():
        after = xz_bytes(chain(train, texts)) - trained
        sizes = {"gzip": gzip_bytes(texts), "xz": xz_bytes(texts), "xz_after_train": after}
        total = sum(len(text.encode()) + 1 for text in texts)
        figures[split] = {name: 8 * size / total for name, size in sizes.items()}
    return figures


def ngrams(train: Encoded, vocab_size: int, splits: Mapping[str, Scored]) -> Scores:
    """{split: {baseline: bits per byte}} of the n-gram models, each fitted once."""
    models = {name: KneserNey(train, vocab_size, order) for name, order in ORDERS.items()}
    return {
        split: {name: score_nats(model.nats(encoded), encoded, nbytes, spelling).bpb for name, model in models.items()}
        for split, (encoded, nbytes, spelling) in splits.items()
    }


def baselines(corpus: Corpus, tokenizer: Tokenizer, encoded: Mapping[str, Encoded], cache: Path) -> Scores:
    """{split: {baseline: bits per byte}} for val and test, where they hold documents; computed once and cached."""
    splits = [split for split in ("val", "test") if len(encoded[split])]

    def packed() -> Scores:
        return compression(corpus.texts("train"), {split: corpus.texts(split) for split in splits})

    def modelled() -> Scores:
        spelling = {split: spelling_bits(corpus, split, tokenizer, cache) for split in splits}
        parts = {split: (encoded[split], corpus.nbytes(split), spelling[split]) for split in splits}
        return ngrams(encoded["train"], len(tokenizer), parts)

    by_text = cached(cache / f"compression-{corpus.fingerprint}.json", packed)
    by_token = cached(cache / f"ngrams-{fingerprint([corpus.fingerprint, tokenizer.fingerprint])}.json", modelled)
    return {split: by_token[split] | by_text[split] for split in splits}


def run_baselines(run: Run, cache: Path) -> Scores:
    """Those of a run's own corpus and tokenizer; NanolmError where its data has gone or changed."""
    corpus, tokenizer = run.corpus(cache), run.tokenizer()
    return baselines(corpus, tokenizer, encode_corpus(corpus, tokenizer, cache), cache)


def gzip_bytes(texts: Iterable[str]) -> int:
    """The size of the texts, one a line, under gzip -9."""
    return _packed(texts, zlib.compressobj(9, wbits=31))


def xz_bytes(texts: Iterable[str]) -> int:
    """The size of the texts, one a line, under xz -9 (whose window is 64 MiB)."""
    return _packed(texts, lzma.LZMACompressor(preset=9))


def _packed(texts: Iterable[str], packer: Any) -> int:
    return sum(len(packer.compress(f"{text}\n".encode())) for text in texts) + len(packer.flush())
