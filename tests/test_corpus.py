"""The corpus: what is counted, dropped, split and cut."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_data import MANY, Memory, everything

from nanolm.corpus.corpus import SPLITS, load_corpus
from nanolm.data.files import Files
from nanolm.data.movie_plots import MoviePlots
from nanolm.errors import DataError
from nanolm.text import normalise

REAL = Path(__file__).parents[2] / "shared" / "data"


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
