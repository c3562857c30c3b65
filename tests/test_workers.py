"""All cores give what one gives, in its order."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_run import write_documents

from nanolm import workers
from nanolm.config import build
from nanolm.corpus.corpus import SPLITS, encode_corpus, fit_tokenizer, load_corpus
from nanolm.errors import DataError
from nanolm.workers import count, in_blocks, spread


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and two processes, so that small examples are spread."""
    monkeypatch.setattr(workers, "BLOCK", 100)
    monkeypatch.setattr("nanolm.corpus.corpus.BLOCK", 100)
    monkeypatch.setattr(workers, "ALONE", 2)
    monkeypatch.setattr(workers, "CORES", 2)


def test_order_and_processes(forks: None) -> None:
    found = list(spread(lambda n: (n * n, os.getpid()), range(40)))
    assert [square for square, _ in found] == [n * n for n in range(40)]
    assert {process for _, process in found[:2]} == {os.getpid()}
    assert os.getpid() not in {process for _, process in found[2:]}
    assert list(spread(str, [])) == []


def test_a_mistake_in_the_source_or_the_work_arrives(forks: None) -> None:
    def source() -> Iterator[int]:
        yield from range(9)
        raise DataError("mine.txt: line 10: not UTF-8")

    with pytest.raises(DataError, match=r"mine.txt: line 10"):
        list(spread(str, source()))
    with pytest.raises(ZeroDivisionError):
        list(spread(lambda n: 1 // (n - 7), range(20)))


def test_blocks_hold_all() -> None:
    texts = ["a" * 2**19] * 5 + ["b"]
    assert [len(block) for block in in_blocks(texts)] == [2, 2, 2]
    assert [text for block in in_blocks(texts) for text in block] == texts


def test_counts(forks: None) -> None:
    texts = [f"{n % 7} {n % 3} x" for n in range(500)]
    assert count(str.split, texts) == Counter(word for text in texts for word in text.split())


@pytest.mark.parametrize("name", ["word", "char", "bpe"])
def test_a_corpus_is_the_same_by_one_core(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = build("data", {"name": "files", "path": str(write_documents(tmp_path / "text.txt", 200)), "maxlen": 20})
    config = build("tokenizer", {"name": name, "minfreq": 2} | ({"vocab_size": 300} if name == "bpe" else {}))

    def work(cache: Path) -> tuple[object, ...]:
        corpus = load_corpus(data, cache)
        tokenizer = fit_tokenizer(config, corpus, cache)
        encoded = encode_corpus(corpus, tokenizer, cache)
        ids = [np.array(array).tolist() for split in SPLITS for array in (encoded[split].ids, encoded[split].offsets)]
        return corpus.fingerprint, corpus.counts, list(corpus.texts("train")), tokenizer.vocabulary, ids

    alone = work(tmp_path / "one")
    request.getfixturevalue("forks")
    assert work(tmp_path / "two") == alone
