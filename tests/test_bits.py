"""Bits per byte: the speller is a proper distribution, every token is scored once, the bytes are the definition's."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Optional, cast

import numpy as np
import pytest
import torch

from nanolm.corpus.corpus import Corpus, Encoded, encode_corpus, load_corpus
from nanolm.data.base import DataConfig
from nanolm.errors import NanolmError
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.scoring.floor import floor_bpb
from nanolm.scoring.score import Score, encoded_nats, score_nats
from nanolm.scoring.speller import Speller, corpus_speller, spell, spelling_bits
from nanolm.tokenizer.base import BOS, EOS
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

CPU = torch.device("cpu")
TEXTS = [f"{a} met {b} in {c}é ." for a in ("ann", "bob", "cy") for b in ("dee", "eve", "flo") for c in "ghijk"]


@dataclass
class Memory(DataConfig):
    """Documents out of a list; `bits` is what its floor says of each."""

    raw: list[str] = field(default_factory=list)
    bits: Optional[float] = None

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        counts["read"] += len(self.raw)
        yield from self.raw

    def floor_bits(self, text: str) -> Optional[float]:
        return self.bits


def corpus_of(folder: Path, extra: tuple[str, ...] = ("zyx abé",)) -> Corpus:
    return load_corpus(Memory(raw=[*TEXTS, *extra], val=0.2, test=0.0), folder)


def encoded_of(lengths: list[int]) -> Encoded:
    """Documents of that many tokens between <BOS> and <EOS>, all tokens different."""
    tokens = itertools.count(10)
    rows = [[BOS, *itertools.islice(tokens, length), EOS] for length in lengths]
    return Encoded(np.array(list(chain.from_iterable(rows)), np.uint16), np.cumsum([0, *map(len, rows)]))


def tiny(dropout: float = 0.0, context: int = 8) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(dims=16, heads=2, nblocks=1, dropout=dropout), 100, context)


def witten_bell(words: list[str], context: str, symbol: str) -> float:
    """The formula, from the words anew at every order: (c + T * lower) / (total + T)."""
    p = 1 / 256 ** max(1, len(symbol.encode()))
    for n in range(5):
        tail = context[len(context) - n :]
        after = [s for word in words for i, s in enumerate([*word, ""]) if ("\0\0\0\0" + word)[: i + 4].endswith(tail)]
        if not after:
            return p
        p = (after.count(symbol) + len(set(after)) * p) / (len(after) + len(set(after)))
    return p


def test_speller_is_interpolated_witten_bell() -> None:
    words = ["abc", "abd", "bca", "é", "aaaaaa"]
    speller = Speller(words)
    for word in ("abc", "dcba", "aaaab", "zé", ""):
        padded = "\0\0\0\0" + word
        wanted = [witten_bell(words, padded[i : i + 4], symbol) for i, symbol in enumerate([*word, ""])]
        assert speller.bits(word) == pytest.approx(-sum(map(math.log2, wanted)))
    assert speller.bits("abc") < speller.bits("cba") < 32


def test_spellings_are_a_distribution() -> None:
    speller = Speller(["ab", "ba", "aab", "b", ""])
    strings = ["".join(letters) for length in range(13) for letters in itertools.product("ab", repeat=length)]
    assert 0.9 < sum(2 ** -speller.bits(word) for word in strings) <= 1
    bytewise = Speller([])
    one = [2 ** -bytewise.bits(chr(code)) for code in range(0x800)]
    assert sum(one) <= 1 / 256  # of all strings, those of one character and then the end


def test_without_words_a_byte_costs_eight_bits() -> None:
    assert [Speller([]).bits(word) for word in ("", "a", "é", "\0", "a\0b", "😀")] == [8, 16, 24, 16, 32, 40]


def test_speller_is_saved_and_checked(tmp_path: Path) -> None:
    words, path = ["naïve", "\ud800", "\0", 'q"uote'], tmp_path / "speller.json"
    Speller(words).save(path)
    assert Speller.load(path).words == sorted(words)
    assert Speller.load(path).bits("nave") == Speller(words).bits("nave")
    for damage in ("[]", '{"speller": 1, "words": [1]}', '{"speller": 2, "words": []}', "{", ""):
        path.write_text(damage)
        with pytest.raises(NanolmError, match=r"speller\.json"):
            Speller.load(path)


def test_one_speller_a_corpus_from_words_that_occur_once(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    counts = Counter(word for text in corpus.texts("train") for word in text.split(" "))
    once = sorted(word for word, count in counts.items() if count == 1)
    assert corpus_speller(corpus).words == once
    assert corpus_speller(corpus).words == once  # from the cache
    common = load_corpus(Memory(raw=["a b"] * 9, dedup=False, val=0.0), tmp_path, needs=())
    assert corpus_speller(common).words == []


def test_unknown_words_and_characters_are_spelled(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    speller = corpus_speller(corpus)
    word = WordConfig(minfreq=2).fit(corpus.texts("train"), "clean")
    char = CharConfig().fit(corpus.texts("train"), "clean")
    texts = ["ann met qux", "qux qux", "ann", ""]
    assert spell(texts, word, speller) == pytest.approx([speller.bits("qux") * n for n in (1, 2, 0, 0)])
    assert spell(["ann ωω"], char, speller) == pytest.approx([2 * speller.bits("ω")])
    assert spell([], word, speller).shape == (0,)
    wanted = spell(corpus.texts("val"), word, speller)
    for _ in range(2):  # computed, then from the cache
        assert np.array_equal(spelling_bits(corpus, "val", word, tmp_path), wanted)


class Recorder(torch.nn.Module):
    """Says that each target costs as many nats as its id: so each place shows what it was given."""

    def nats(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return targets.clamp_min(0).float()


@pytest.mark.parametrize("context", [2, 3, 8, 64])
def test_every_token_is_scored_once_in_its_place(context: int) -> None:
    encoded = encoded_of([3, 0, 41, 16, 1, 7, 8, 9])
    nats = encoded_nats(cast(Transformer, Recorder()), encoded, context, CPU, "fp32")
    assert np.array_equal(nats, np.where(encoded.ids == BOS, 0, encoded.ids))
    result = score_nats(nats, encoded, np.arange(1, 9), np.full(8, 0.5))
    assert result.tokens == 3 + 41 + 16 + 1 + 7 + 8 + 9 + 8
    assert result.bits[1] == pytest.approx(EOS / math.log(2) + 0.5)
    assert result.bpb == pytest.approx((nats.sum() / math.log(2) + 4) / 36)


def test_padding_and_company_change_nothing() -> None:
    model, encoded = tiny(), encoded_of([5, 2, 20, 0])
    together = encoded_nats(model, encoded, 8, CPU, "fp32")
    for i in range(len(encoded)):
        ids = encoded.document(i)
        alone = encoded_nats(model, Encoded(ids, np.array([0, len(ids)])), 8, CPU, "fp32")
        assert together[encoded.offsets[i] : encoded.offsets[i + 1]] == pytest.approx(alone, rel=1e-5)


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    encoded = encoded_of([5, 3])
    for training in (True, False):
        model = tiny(dropout=0.5).train(training)
        first, second = (encoded_nats(model, encoded, 8, CPU, "fp32") for _ in range(2))
        assert np.array_equal(first, second)
        assert model.training is training


def test_score_is_sums_over_tokens() -> None:
    result = Score(np.array([8.0, 4.0]), np.array([2.0, 0.0]), np.array([4, 2]), 5, 10 * math.log(2), 1)
    assert result.bpb == 2
    assert result.perplexity == pytest.approx(4)
    assert result.loss == pytest.approx(2 * math.log(2))
    assert result.unk_rate == 0.2
    assert Score(np.zeros(1), np.zeros(1), np.ones(1), 1, 1e6, 0).perplexity == math.inf
    nothing = score_nats(np.zeros(0), encoded_of([]), np.zeros(0, np.int64), np.zeros(0))
    assert all(map(math.isnan, (nothing.bpb, nothing.loss, nothing.perplexity, nothing.unk_rate)))


def test_all_tokenizers_score_the_same_bytes(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    nbytes = corpus.nbytes("val")
    assert nbytes.tolist() == [len(text.encode()) + 1 for text in corpus.texts("val")]
    for config in (CharConfig(), WordConfig(minfreq=1), WordConfig(minfreq=9)):
        tokenizer = config.fit(corpus.texts("train"), "clean")
        encoded = encode_corpus(corpus, tokenizer, tmp_path)["val"]
        nats = np.where(encoded.ids == BOS, 0.0, math.log(2))  # a bit a token
        result = score_nats(nats, encoded, nbytes, spelling_bits(corpus, "val", tokenizer, tmp_path))
        bits = sum(len(tokenizer.encode(text)) + 1 for text in corpus.texts("val")) + result.spelling.sum()
        assert result.bpb == pytest.approx(bits / nbytes.sum())
        assert (result.spelling.sum() > 0) == (result.unknown > 0)


def test_floor_is_the_datas_own_bits(tmp_path: Path) -> None:
    for bits, wanted in ((None, False), (90.0, True)):
        data = Memory(raw=TEXTS, val=0.2, test=0.0, bits=bits)
        corpus = load_corpus(data, tmp_path)
        for _ in range(2):
            found = floor_bpb(data, corpus, "val")
            assert found == (pytest.approx(90 / corpus.nbytes("val").mean()) if wanted else None)
    assert floor_bpb(data, corpus, "test") is None
