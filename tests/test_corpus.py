"""Corpora: what is kept and where it goes, that caches are shared and mended, and that ids are the texts."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanolm.corpus.corpus import SPLITS, Corpus, encode_corpus, fit_tokenizer, load_corpus
from nanolm.data.base import DataConfig
from nanolm.data.files import Files
from nanolm.data.movie_plots import MoviePlots
from nanolm.errors import ConfigError, DataError, NanolmError
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

REAL = Path(__file__).parents[2] / "shared" / "data"
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


def test_documents_are_normalised_counted_and_split(tmp_path: Path) -> None:
    corpus = load_corpus(
        Memory(raw=["  ", "Ann ran!", "ANN ran.", "one two three four", *MANY, "9"], maxlen=7), tmp_path
    )
    splits = everything(corpus)
    assert sorted(chain(*splits.values())) == sorted([*MANY, "ann ran .", "one two three four"])
    assert corpus.counts == {"read": 1005, "emptied": 2, "duplicate": 1, "kept": 1002} | {
        split: len(texts) for split, texts in splits.items()
    }
    assert 20 < len(splits["val"]) < 85
    assert 20 < len(splits["test"]) < 85
    assert corpus.summary().startswith("1,005 documents read; 2 emptied; 1 duplicate; 1,002 kept: 898 train")
    short = load_corpus(Memory(raw=[*MANY, "a b c"], maxlen=3), tmp_path, needs=())
    assert (short.counts["too_long"], short.counts["kept"]) == (1000, 1)


def test_texts_are_a_lazy_sequence_and_bytes_count_the_newline(tmp_path: Path) -> None:
    corpus = load_corpus(Memory(raw=["zoë", "a\nb\n\n", *MANY], normalise="none", split="tail", val=0.5), tmp_path)
    texts = corpus.texts("train")
    assert (texts[0], texts[1], texts[-1], texts[1:3], len(texts)) == ("zoë", "a\nb", MANY[498], ["a\nb", MANY[0]], 501)
    assert corpus.nbytes("train")[:2].tolist() == [5, 4]
    assert corpus.nbytes("train").dtype == np.int64
    with pytest.raises(IndexError):
        texts[501]


def test_hash_split_depends_on_the_text_alone(tmp_path: Path) -> None:
    first = load_corpus(Memory(raw=MANY), tmp_path)
    turned = load_corpus(Memory(raw=MANY[::-1]), tmp_path)
    half = load_corpus(Memory(raw=MANY[::2]), tmp_path)
    assert first.folder != turned.folder
    assert first.fingerprint == turned.fingerprint != half.fingerprint
    for split in SPLITS:
        assert set(turned.texts(split)) == set(first.texts(split)) >= set(half.texts(split))


def test_tail_split_is_the_last_share_and_has_no_test(tmp_path: Path) -> None:
    corpus = load_corpus(Memory(raw=MANY, split="tail", val=0.1), tmp_path)
    assert everything(corpus) == {"train": MANY[:900], "val": MANY[900:], "test": []}
    turned = load_corpus(Memory(raw=MANY[::-1], split="tail", val=0.1), tmp_path)
    assert turned.fingerprint != corpus.fingerprint


def test_fingerprint_tells_normalisation_split_and_repeats_apart(tmp_path: Path) -> None:
    configs = [
        Memory(raw=MANY),
        Memory(raw=MANY, normalise="none"),
        Memory(raw=MANY, val=0.1),
        Memory(raw=MANY + MANY[:1], dedup=False),
        Memory(raw=MANY + MANY[:1] * 3, dedup=False),
    ]
    assert len({load_corpus(config, tmp_path).fingerprint for config in configs}) == len(configs)
    assert load_corpus(Memory(raw=MANY * 2), tmp_path).fingerprint == load_corpus(configs[0], tmp_path).fingerprint


@pytest.mark.parametrize("limit", [1, 7, 333, 999, 1000, 5000])
def test_limit_takes_evenly_spaced_documents_in_order(tmp_path: Path, limit: int) -> None:
    corpus = load_corpus(Memory(raw=MANY, limit=limit, split="tail", val=0.0), tmp_path, needs=())
    places = [MANY.index(text) for text in corpus.texts("train")]
    assert len(places) == min(limit, 1000)
    assert corpus.counts.get("left_out", 0) == 1000 - len(places)
    steps = np.diff(places)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


@pytest.mark.parametrize(("mode", "size"), [("clean", 1), ("none", 1), ("none", 30)])
def test_a_lone_long_document_is_cut_between_words(tmp_path: Path, mode: str, size: int) -> None:
    text = normalise("Á word\n, and so it goes. " * 100 * size, mode).rstrip("\n")
    corpus = load_corpus(Memory(raw=[text], normalise=mode), tmp_path)
    parts = [texts[0] for texts in everything(corpus).values()]
    cuts = [len(parts[0]), len(parts[0]) + 1 + len(parts[1])]
    assert all(text[cut].isspace() for cut in cuts)
    assert parts == [text[: cuts[0]], text[cuts[0] + 1 : cuts[1]], text[cuts[1] + 1 :]]
    assert len(parts[0]) / len(text) == pytest.approx(0.9, abs=0.01)
    assert corpus.notes == ["one long document, cut into train, val, test in a row"]
    assert corpus.counts == {"read": 1, "duplicate": 0, "kept": 1, "train": 1, "val": 1, "test": 1}
    whole = load_corpus(Memory(raw=[text], normalise=mode, val=0.0, test=0.0), tmp_path, needs=("train",))
    assert everything(whole) == {"train": [text], "val": [], "test": []}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Memory(name="files"), "data=files: no document to learn from (0 read); check the file and its column"),
        (
            Memory(name="files", raw=["", "42"], maxlen=9),
            "2 emptied); cleaning left nothing of 2 documents, as '42'; data.normalise=none",
        ),
        (Memory(name="files", raw=["a b c"], maxlen=2), "(1 read, 1 too long); raise data.maxlen"),
        (
            Memory(raw=["a word"], val=0.01, test=0.0),
            "data.val=0.01: no val document among 1; a lone document is split from 1,000 bytes on; give more",
        ),
        (
            Memory(raw=["a word"], split="tail"),
            "data.val=0.05: no train document among 1; a lone document",
        ),
        (
            Memory(raw=MANY, val=0.0),
            "data.val=0.0: no val document among 1,000; give data.val=0.05 data.test=0.05",
        ),
        (Memory(raw=["an army", "a city", "a ship"]), "data.val=0.05: no val document among 3; give data.val="),
    ],
)
def test_too_few_documents_are_one_line_with_the_mend(tmp_path: Path, config: Memory, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_corpus(config, tmp_path)
    assert message in str(error.value)


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


def test_ids_are_the_texts_row_by_row(tmp_path: Path) -> None:
    for raw in (MANY, MANY[::-1]):
        corpus = load_corpus(Memory(raw=raw), tmp_path)
        for config in (WordConfig(minfreq=2), CharConfig()):
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    raw=st.lists(st.text(alphabet=st.characters(codec="utf-8")), max_size=8),
    mode=st.sampled_from(["clean", "none"]),
    dedup=st.booleans(),
    split=st.sampled_from(["hash", "tail"]),
)
def test_any_documents_come_back_or_are_one_line(
    tmp_path: Path, raw: list[str], mode: str, dedup: bool, split: str
) -> None:
    texts = [normalise(text.rstrip("\r\n"), mode) for text in raw]
    expected = [text for text in texts if text and not text.isspace()]
    try:
        corpus = load_corpus(Memory(raw=raw, normalise=mode, dedup=dedup, split=split), tmp_path, needs=())
    except DataError:
        assert not expected
    else:
        kept = Counter(chain(*everything(corpus).values()))
        assert kept == (Counter(set(expected)) if dedup else Counter(expected))


@pytest.mark.skipif(not REAL.exists(), reason="no shared data")
def test_the_kaggle_files_head_as_the_original_split_it(tmp_path: Path) -> None:
    path = str(REAL / "wiki_movie_plots_head.csv.gz")
    corpus = load_corpus(MoviePlots(path=path, maxlen=128, split="tail", val=0.1, dedup=False), tmp_path)
    assert corpus.counts == {
        "read": 34893, "blank": 32894, "too_long": 1318, "kept": 681, "train": 612, "val": 69, "test": 0,
    }  # fmt: skip
    assert load_corpus(MoviePlots(path=path), tmp_path).counts["duplicate"] == 7


def test_a_file_on_disk_goes_all_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(MANY) + "\n\n")
    corpus = load_corpus(Files(path=str(tmp_path / "a.txt")), tmp_path)
    assert corpus.counts["kept"] == 1000
    assert corpus.fingerprint == load_corpus(Memory(raw=MANY), tmp_path).fingerprint
    assert corpus.fingerprint == "a57e9d7297ac1652"  # of the texts and their split alone: it has to last
