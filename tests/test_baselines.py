"""Baselines: Kneser-Ney agrees with its definition, sums to one, and pays for what it doesn't know."""

import gzip
import lzma
import math
import random
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from nanolm.corpus.corpus import Encoded, encode_corpus, load_corpus
from nanolm.data.base import DataConfig
from nanolm.data.files import Files
from nanolm.data.movie_plots import MoviePlots
from nanolm.data.tinyplots import TinyPlots
from nanolm.scoring.baselines import FALLBACK, KneserNey, baselines, compression, ngrams
from nanolm.scoring.speller import spelling_bits
from nanolm.tokenizer.base import BOS, EOS
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

REAL = Path(__file__).parents[2] / "shared" / "data" / "movie_extracts.csv.gz"
SIZE = 12  # of the toy vocabulary


def encoded_of(documents: list[list[int]]) -> Encoded:
    rows = [[BOS, *document, EOS] for document in documents]
    return Encoded(np.array(list(chain.from_iterable(rows)), np.uint16), np.cumsum([0, *map(len, rows)]))


def toy(seed: int, count: int, size: int = SIZE) -> list[list[int]]:
    """Documents in which some tokens like to follow others."""
    chance = random.Random(seed)
    documents = []
    for _ in range(count):
        document = [chance.randrange(4, size)]
        while chance.random() < 0.85:
            document.append(4 + (document[-1] * 3 + chance.choice((0, 0, 0, 1, 5))) % (size - 4))
        documents.append(document)
    return documents


class Slow:
    """Chen & Goodman's interpolated modified Kneser-Ney, word for word, in dicts."""

    def __init__(self, documents: list[list[int]], order: int) -> None:
        self.counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        before: list[dict[tuple[int, ...], set[int]]] = [defaultdict(set) for _ in range(order + 1)]
        for document in documents:
            ids = [BOS, *document, EOS]
            for end in range(1, len(ids)):
                for n in range(1, min(order, end + 1) + 1):
                    start = end + 1 - n
                    gram = tuple(ids[start : end + 1])
                    self.counts[n][gram] += 1
                    if start:
                        before[n][gram].add(ids[start - 1])
        for n in range(1, order):
            self.counts[n] = Counter(
                {gram: seen if gram[0] == BOS else len(before[n][gram]) for gram, seen in self.counts[n].items()}
            )

    def discount(self, n: int, count: int) -> float:
        of = Counter(self.counts[n].values())
        if not all(of[k] for k in (1, 2, 3, 4)):
            return FALLBACK[min(count, 3)]
        y = of[1] / (of[1] + 2 * of[2])
        kinds = [0.0, *(k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3))]
        return kinds[min(count, 3)] if min(kinds[1:]) > 0 else FALLBACK[min(count, 3)]

    def p(self, context: tuple[int, ...], token: int) -> float:
        n = len(context) + 1
        lower = self.p(context[1:], token) if context else 1 / (SIZE - 2)
        after = {gram: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not after:
            return lower
        total = sum(after.values())
        kept = max(0.0, after.get((*context, token), 0) - self.discount(n, after.get((*context, token), 0)))
        return kept / total + sum(self.discount(n, count) for count in after.values()) / total * lower


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 4, 200])
def test_agrees_with_the_definition(order: int, count: int) -> None:
    documents, unseen = toy(0, count), [*toy(1, 6), [11, 11, 11, 11, 11, 11], []]
    slow, found = Slow(documents, order), KneserNey(encoded_of(documents), SIZE, order).nats(encoded_of(unseen))
    wanted = []
    for document in unseen:
        ids = [BOS, *document, EOS]
        wanted.append(0.0)
        for end in range(1, len(ids)):
            context = tuple(ids[max(0, end - order + 1) : end]) if order else ()
            p = slow.p(context, ids[end]) if order else 1 / (SIZE - 2)
            wanted.append(-math.log(p))
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    model = KneserNey(encoded_of(toy(0, 300)), SIZE, order)
    chance = random.Random(2)
    for length in (0, 1, 2, 3, 4, 7):
        context = [BOS, *chance.choices(range(4, SIZE), k=length)]
        rows = [[*context, token] for token in range(SIZE) if token not in (0, BOS)]
        encoded = Encoded(np.array(rows).ravel(), np.arange(len(rows) + 1) * len(rows[0]))
        last = model.nats(encoded).reshape(len(rows), -1)[:, -1]
        assert np.exp(-last).sum() == pytest.approx(1)


def test_longer_contexts_help_where_there_is_something_to_see() -> None:
    train, test = encoded_of(toy(0, 2000)), encoded_of(toy(1, 200))
    uniform, unigram, bigram = (KneserNey(train, SIZE, order).nats(test).sum() for order in (0, 1, 2))
    assert uniform > unigram > bigram * 1.3


def test_compression_is_that_of_the_joined_text() -> None:
    train, texts = [f"the cat saw {i} dogs" for i in range(300)], ["the dog saw a cat", "the cät"]
    found = compression(train, {"val": texts})["val"]
    joined, before = ("".join(f"{text}\n" for text in part).encode() for part in (texts, train))
    assert found["gzip"] == 8 * len(gzip.compress(joined, 9)) / len(joined)
    assert found["xz"] == 8 * len(lzma.compress(joined, preset=9)) / len(joined)
    after = len(lzma.compress(before + joined, preset=9)) - len(lzma.compress(before, preset=9))
    assert found["xz_after_train"] == 8 * after / len(joined) < found["xz"]


def test_baselines_of_a_corpus_are_cached_by_tokenizer(tmp_path: Path) -> None:
    chance = random.Random(0)
    lines = [" ".join(chance.choices(("ann", "bob", "saw", "the", "old", "map"), k=12)) for _ in range(200)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    corpus = load_corpus(Files(path=str(tmp_path / "text.txt"), val=0.1, test=0.0), tmp_path)
    found = []
    for config in (WordConfig(minfreq=1), CharConfig(), WordConfig(minfreq=1)):
        tokenizer = config.fit(corpus.texts("train"), "clean")
        encoded = encode_corpus(corpus, tokenizer, tmp_path)
        found.append(baselines(corpus, tokenizer, encoded, tmp_path))
        assert set(found[-1]) == {"val"}  # there is no test split
        assert list(found[-1]["val"]) == ["uniform", "unigram", "kneser_ney_5", "gzip", "xz", "xz_after_train"]
    assert found[0] == found[2]
    assert found[0]["val"]["gzip"] == found[1]["val"]["gzip"]
    assert found[0]["val"]["unigram"] != found[1]["val"]["unigram"]
    assert len(list(tmp_path.glob("ngrams-*.json"))) == 2
    assert len(list(tmp_path.glob("compression-*.json"))) == 1


NEEDS = [pytest.mark.slow, pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TinyPlots(plots=800), id="tinyplots"),
        pytest.param(MoviePlots(path=str(REAL), maxlen=128, limit=3000), id="films", marks=NEEDS),
    ],
)
def test_deleting_words_wins_nothing(data: DataConfig, tmp_path: Path) -> None:
    corpus = load_corpus(data, tmp_path)
    charged, free = [], []
    for minfreq in (2, 5, 20, 100):
        tokenizer = WordConfig(minfreq=minfreq).fit(corpus.texts("train"), "clean")
        encoded = encode_corpus(corpus, tokenizer, tmp_path)
        nbytes, spelling = corpus.nbytes("val"), spelling_bits(corpus, "val", tokenizer, tmp_path)
        found = ngrams(encoded["train"], len(tokenizer), {"val": (encoded["val"], nbytes, spelling)})["val"]
        assert found["kneser_ney_5"] < found["unigram"] < found["uniform"]
        charged.append(found["kneser_ney_5"])
        free.append(found["kneser_ney_5"] - spelling.sum() / nbytes.sum())
    assert charged == sorted(charged)
    assert free == sorted(free, reverse=True)  # what the charge is for
