"""Corpora as people really have them: what cleaning takes is said, lone documents are cut, official splits stay."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanolm.corpus.corpus import SPLITS, Corpus, advise, encode_corpus, fit_tokenizer, load_corpus
from nanolm.data.files import Files
from nanolm.errors import ConfigError, DataError
from nanolm.scoring.speller import corpus_speller, spelling_bits
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig


def put(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def corpus_of(folder: Path, text: str, needs: tuple[str, ...] = (), **how: Any) -> Corpus:
    return load_corpus(Files(path=put(folder / "a.txt", text), **how), folder, needs)


def everything(corpus: Corpus) -> dict[str, list[str]]:
    return {split: list(corpus.texts(split)) for split in SPLITS}


@pytest.mark.parametrize("normalise", ["clean", "none"])
@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
def test_a_book_is_the_same_whatever_ends_its_lines(tmp_path: Path, normalise: str, document: str) -> None:
    book = "".join(f"Chapter {n}\n\nIt was night,\nand {n} ships went.\n\n" for n in range(60))
    forms = [book, book.replace("\n", "\r\n"), book.replace("\n", "\r"), "\ufeff" + book]
    made = [corpus_of(tmp_path, form, normalise=normalise, document=document) for form in forms]
    assert len({corpus.fingerprint for corpus in made}) == 1
    assert len({corpus.folder for corpus in made}) == len(forms)


@pytest.mark.parametrize("text", ["ACGT" * 2000, "我们写一些中文的句子" * 300, "é" * 5000, "x " + "x" * 5000])
@pytest.mark.parametrize("split", ["hash", "tail"])
def test_a_document_without_spaces_is_cut_between_characters(tmp_path: Path, text: str, split: str) -> None:
    corpus = corpus_of(tmp_path, text, ("train", "val"), document="file", normalise="none", split=split)
    parts = [part for texts in everything(corpus).values() for part in texts]
    assert "".join(parts) == text
    assert len(parts[0]) / len(text) == pytest.approx(0.9 if split == "hash" else 0.95, abs=0.01)
    assert corpus.nbytes("val").tolist() == [len(corpus.texts("val")[0].encode()) + 1]


def test_what_cleaning_empties_is_told_with_an_example(tmp_path: Path) -> None:
    sums = "\n".join(f"{n}+{n}={2 * n}" for n in range(300))
    with pytest.raises(DataError) as error:
        corpus_of(tmp_path, sums)
    assert "(300 read, 300 emptied); cleaning left nothing of 300 documents, as '0+0=0'; data.normalise=none" in str(
        error.value
    )
    half = corpus_of(tmp_path, sums + "\n" + "\n".join(f"line {'abcdefghij'[n % 10] * n}" for n in range(300)))
    assert half.counts["emptied"] == 300
    assert half.notes[0].startswith("cleaning left nothing of 300 documents, as '0+0=0'; data.normalise=none keeps")
    assert "300 emptied; " in half.summary()
    assert corpus_of(tmp_path, sums, normalise="none").notes == []


def test_documents_that_cleaning_made_equal_are_told(tmp_path: Path) -> None:
    text = "\n".join(f"the sum of {n} and {n + 1}" for n in range(300))
    with pytest.raises(DataError) as error:
        corpus_of(tmp_path, text, ("train", "val"))
    assert "cleaning made 299 documents equal to others, as 'the sum of 0 and 1' and 'the sum of 1 and 2'" in str(
        error.value
    )
    assert corpus_of(tmp_path, text, normalise="none").notes == []
    assert corpus_of(tmp_path, "same\n" * 300).notes == []  # no fault of the cleaning


def test_what_cleaning_shortens_is_told(tmp_path: Path) -> None:
    code = "\n".join(f"    if x[{n}] == (y + {n}) * 10 ** 3: {{f(0x{n:x})}}  # {n:b}" for n in range(300))
    said = corpus_of(tmp_path, code).notes[0]
    assert said.startswith("cleaning took ")
    assert "'if x[0] == (y + 0) * 10 ** 3: {f(0x0)} …' it left 'if x y f x'; data.normalise=none keeps it" in said


def test_literal_unk_is_told(tmp_path: Path) -> None:
    said = corpus_of(tmp_path, "a <unk> b\nthe <unk> c\nd\n" + "\n".join(map(chr, range(97, 123)))).notes
    assert said[0].startswith("a literal <unk> in 2 documents")


@pytest.mark.parametrize("normalise", ["clean", "none"])
def test_literal_unk_can_be_charged_alike_for_every_tokenizer(tmp_path: Path, normalise: str) -> None:
    rare = ["zebra", "quagga", "okapi"]
    text = "\n".join(f"a <unk> b {n * 'c '}<unk>" for n in range(40)) + "\n" + "\n".join(rare)
    plain = corpus_of(tmp_path, text, normalise=normalise)
    charged = corpus_of(tmp_path, text, normalise=normalise, charge_unk=True)
    assert charged.notes == []
    assert charged.fingerprint != plain.fingerprint
    price = corpus_speller(charged).mean_bits
    assert price > 1
    for config in (WordConfig(), CharConfig(), BPEConfig(vocab_size=300)):
        tokenizer = fit_tokenizer(config, charged, tmp_path)
        more = spelling_bits(charged, "train", tokenizer, tmp_path) - spelling_bits(plain, "train", tokenizer, tmp_path)
        expected = [price * text.count("unk") for text in charged.texts("train")]
        assert more == pytest.approx(expected)
    assert everything(plain) == everything(charged)


def test_a_word_tokenizer_on_text_without_words_is_told(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    lines = ("".join(chance.choice(list("我们写一些中文的句子。"), 20)) for _ in range(400))
    corpus = corpus_of(tmp_path, "\n".join(lines))
    for config, told in ((WordConfig(), True), (CharConfig(), False), (BPEConfig(vocab_size=300), False)):
        tokenizer = fit_tokenizer(config, corpus, tmp_path)
        said = advise(corpus, tokenizer, encode_corpus(corpus, tokenizer, tmp_path))
        assert (said != corpus.notes) == told
        if told:
            assert "of the tokens are <UNK>; tokenizer=bpe or tokenizer=char knows every text" in said[-1]


@dataclass
class Letters(CharConfig):
    """Another tokenizer of the same name and fields."""

    def split(self, text: str, normalise: str) -> str:
        return text.replace(" ", "")


def test_caches_are_of_the_class_that_made_them(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "one army\ntwo armies")
    assert " " not in fit_tokenizer(Letters(), corpus, tmp_path).vocabulary
    assert " " in fit_tokenizer(CharConfig(), corpus, tmp_path).vocabulary


PARTS = {"train": ["a b", "c d", "c d", "e f", "g h"], "val": ["e f", "i j", "i j"], "test": ["i j", "k l", "c d"]}


def official(folder: Path, **how: Any) -> Files:
    paths: dict[str, Any] = {
        f"{split}_path": put(folder / f"{split}.txt", "\n".join(lines)) for split, lines in PARTS.items()
    }
    return Files(**paths, **how)


def test_official_splits_stay_and_overlaps_leave_train(tmp_path: Path) -> None:
    corpus = load_corpus(official(tmp_path), tmp_path)
    assert everything(corpus) == {"train": ["a b", "g h"], "val": PARTS["val"], "test": PARTS["test"]}
    assert corpus.counts["duplicate"] == 3
    assert corpus.notes == [
        "both in train and in val: 1 text; left out of train",
        "both in train and in test: 1 text; left out of train",
        "both in val and in test: 1 text; left as they are",
    ]
    assert corpus.counts["read"] == 11 == corpus.counts["kept"] + corpus.counts["duplicate"]
    kept = load_corpus(official(tmp_path, dedup=False), tmp_path)
    assert everything(kept) == PARTS
    assert kept.notes[0] == "both in train and in val: 1 text; data.dedup=true leaves them out of train"
    assert everything(load_corpus(official(tmp_path, limit=1), tmp_path)) == {**everything(corpus), "train": ["a b"]}
    without = official(tmp_path)
    without.test_path = None
    assert load_corpus(without, tmp_path).counts["test"] == 0


def test_an_official_part_without_documents_is_named(tmp_path: Path) -> None:
    config = official(tmp_path)
    put(tmp_path / "val.txt", "\n42\n")
    with pytest.raises(DataError, match=r"^data=files: its val part holds no document"):
        load_corpus(config, tmp_path)


def test_official_splits_need_train_and_val(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"train_path": "a"}, {"path": "a", "val_path": "b"}, {"val_path": "a"}, {}]
    for given in wrong:
        with pytest.raises(
            ConfigError, match=r"give data\.path=FILE alone, or data\.train_path, val_path and test_path"
        ):
            Files(**given)
    with pytest.raises(ConfigError, match=r"data\.path: goes without data\.train_path; .*data=files data\.path=FILE"):
        Files(path="a", train_path="b", val_path="c")


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_few_lines_are_told_what_to_change(tmp_path: Path, count: int) -> None:
    text = "\n".join(
        ["an army", "a city", "a ship", "a sea", "the sun", "a day", "ten men", "one god", "no sky"][:count]
    )
    for split in ("hash", "tail"):
        how: dict[str, Any] = {"split": split, "val": 0.0, "test": 0.0}
        with pytest.raises(DataError) as error:
            corpus_of(tmp_path, text, ("train", "val"), **how)
        words = str(error.value).split("; give ")[1].split(", or")[0].split()
        told = dict(word.removeprefix("data.").split("=") for word in words)
        values = {key: value if key == "split" else float(value) for key, value in told.items()}
        made = corpus_of(tmp_path, text, ("train", "val"), **how | values)
        assert made.counts["kept"] == count


def test_reading_twice_says_the_same(tmp_path: Path) -> None:
    config = official(tmp_path)
    assert [len(list(texts)) for texts in config.official_splits(Counter()).values()] == [5, 3, 3]
    assert load_corpus(config, tmp_path).fingerprint == load_corpus(config, tmp_path / "other").fingerprint
