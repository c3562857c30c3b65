"""What is kept of a corpus, a tokenizer and ids: found again, made once, mended, named where it can't be written."""

import threading
from pathlib import Path

import numpy as np
import pytest
from memory_data import MANY, Memory, everything

from nanolm.corpus.corpus import encode_corpus, fit_tokenizer, load_corpus
from nanolm.errors import ConfigError, NanolmError
from nanolm.tokenizer.base import BOS, EOS
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig


def test_a_second_load_reads_nothing_and_damage_is_mended(tmp_path: Path) -> None:
    config = Memory(raw=MANY)
    first = load_corpus(config, tmp_path)
    reads = Memory.reads
    assert everything(load_corpus(config, tmp_path)) == everything(first)
    assert Memory.reads == reads
    for name in ("text.bin", "offsets.npy", "splits.npy", "report.json", "sizes.json"):
        (first.folder / name).unlink()
        assert everything(load_corpus(config, tmp_path)) == everything(first)
        (first.folder / name).write_bytes(b"")
        assert everything(load_corpus(config, tmp_path)) == everything(first)
    assert Memory.reads == reads + 10


def test_parallel_jobs_prepare_a_corpus_once(tmp_path: Path) -> None:
    reads, found = Memory.reads, []
    jobs = [threading.Thread(target=lambda: found.append(load_corpus(Memory(raw=MANY), tmp_path))) for _ in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len({corpus.fingerprint for corpus in found}) == 1
    assert len(found) == 8
    assert Memory.reads == reads + 1


def test_ids_are_the_texts_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanolm.text.PART", 50)
    for raw in (MANY, MANY[::-1], [" ".join(MANY)]):  # the last one: a long document, which is encoded in parts
        corpus = load_corpus(Memory(raw=raw), tmp_path)
        for config in (WordConfig(minfreq=2), CharConfig(), BPEConfig(vocab_size=300)):
            tokenizer = fit_tokenizer(config, corpus, tmp_path)
            for split, encoded in encode_corpus(corpus, tokenizer, tmp_path).items():
                assert encoded.ids.dtype == np.uint16
                assert isinstance(encoded.ids, np.memmap)
                documents = [encoded.document(row).tolist() for row in range(len(encoded))]
                assert documents == [[BOS, *tokenizer.encode(text), EOS] for text in corpus.texts(split)]


def test_large_vocabularies_get_wider_ids_and_empty_splits_none(tmp_path: Path) -> None:
    words = [
        " ".join("".join(chr(97 + n // 26**k % 26) for k in range(4)) for n in range(m, m + 700))
        for m in range(0, 70_000, 700)
    ]
    corpus = load_corpus(Memory(raw=words, split="tail", val=0.01), tmp_path)
    tokenizer = fit_tokenizer(WordConfig(), corpus, tmp_path)
    encoded = encode_corpus(corpus, tokenizer, tmp_path)
    assert len(tokenizer) > 2**16
    assert encoded["train"].ids.dtype == np.uint32
    assert encoded["train"].document(98)[1:-1].tolist() == tokenizer.encode(words[98])
    assert (len(encoded["test"]), len(encoded["test"].ids)) == (0, 0)


def test_tokenizer_and_ids_are_found_again_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(Memory(raw=MANY), tmp_path)
    tokenizer = fit_tokenizer(WordConfig(), corpus, tmp_path)
    before = encode_corpus(corpus, tokenizer, tmp_path)["train"].ids.tolist()
    next(tmp_path.glob("encoded-*/train.ids")).write_bytes(b"")
    assert encode_corpus(corpus, tokenizer, tmp_path)["train"].ids.tolist() == before
    for name in ("fit", "encode_batch"):
        monkeypatch.setattr(WordConfig if name == "fit" else type(tokenizer), name, None)
    again = fit_tokenizer(WordConfig(), corpus, tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert encode_corpus(corpus, again, tmp_path)["train"].ids.tolist() == before


def test_a_tokenizer_of_other_text_is_refused(tmp_path: Path) -> None:
    tokenizer = fit_tokenizer(CharConfig(), load_corpus(Memory(raw=MANY), tmp_path), tmp_path)
    with pytest.raises(
        ConfigError, match=r"data\.normalise=none: the tokenizer knows clean text; give data\.normalise=clean"
    ):
        encode_corpus(load_corpus(Memory(raw=MANY, normalise="none"), tmp_path), tokenizer, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NanolmError, match=r"file.*: can't be made"):
        load_corpus(Memory(raw=MANY), tmp_path / "file")
