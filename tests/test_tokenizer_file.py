"""tokenizer.json: it comes back whole, other people's code opens it, a damaged or hostile one is refused."""

import copy
import json
import random
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from fitted_tokenizers import ANY, CONFIGS, KINDS, TEXT, TEXTS, fitted
from hypothesis import given, settings

from nanolm.config import build
from nanolm.errors import NanolmError
from nanolm.text import normalise
from nanolm.tokenizer.base import SPECIALS, UNK, Tokenizer, load_tokenizer

DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Tokenizer, Path]]:
    """Each kind under each normalisation, with its file."""
    folder = tmp_path_factory.mktemp("tokenizers")
    made = {kind: (fitted(*kind), folder / f"{'-'.join(kind)}.json") for kind in KINDS}
    for tokenizer, path in made.values():
        tokenizer.save(path)
    return made


def assert_same_ids(tokenizer: Tokenizer, theirs: Callable[[str], list[int]], raw: str) -> None:
    text = normalise(raw, tokenizer.normalise)
    ids = tokenizer.encode(text)
    assert theirs(text) == ids
    assert tokenizer.encode_batch([text, text]) == [ids, ids]


@settings(max_examples=150, deadline=None)
@given(raw=ANY)
def test_the_library_gives_the_same_ids(saved: dict[tuple[str, str], tuple[Tokenizer, Path]], raw: str) -> None:
    for tokenizer, path in saved.values():
        library = LIBRARY.setdefault(path, tokenizers.Tokenizer.from_file(str(path)))
        assert_same_ids(tokenizer, lambda text, library=library: library.encode(text).ids, raw)  # type: ignore[misc]
        ids = tokenizer.encode(normalise(raw, tokenizer.normalise))
        assert library.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


LIBRARY: dict[Path, tokenizers.Tokenizer] = {}


@settings(max_examples=150, deadline=None)
@given(raw=TEXT)
def test_the_library_normalises_raw_text_as_we_do(
    saved: dict[tuple[str, str], tuple[Tokenizer, Path]], raw: str
) -> None:
    for tokenizer, path in saved.values():
        library = LIBRARY.setdefault(path, tokenizers.Tokenizer.from_file(str(path)))
        assert library.encode(raw).ids == tokenizer.encode(normalise(raw, tokenizer.normalise))


@pytest.mark.slow
def test_the_library_normalises_every_character_as_we_do(
    saved: dict[tuple[str, str], tuple[Tokenizer, Path]],
) -> None:
    library = tokenizers.Tokenizer.from_file(str(saved["char", "clean"][1])).normalizer
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    raw = [f"a{char}b" for char in characters if unicodedata.category(char) not in ("Cn", "Cs")]
    assert [library.normalize_str(text) for text in raw] == [normalise(text, "clean") for text in raw]


def real_texts(count: int) -> list[str]:
    pandas = pytest.importorskip("pandas")
    if not DATA.is_dir():
        pytest.skip("needs the data for development")
    plots = pandas.concat([pandas.read_csv(path)["Plot"].dropna() for path in sorted(DATA.glob("*.csv.gz"))])
    return random.Random(1).sample(list(plots), count)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_transformers_gives_the_same_ids_on_real_texts(name: str, mode: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    texts = real_texts(1000)
    fit_on = [normalise(text, mode) for text in texts[:300]]
    tokenizer = build("tokenizer", {"name": name, "minfreq": 3}).fit(fit_on, mode)
    tokenizer.save(tmp_path / "tokenizer.json")
    names = {f"{special[1:4].lower()}_token": special for special in SPECIALS}
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    told = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), split_special_tokens=True, **names
    )
    assert len(told) == len(plain) == len(tokenizer)
    assert told.convert_tokens_to_ids(list(SPECIALS)) == [0, 1, 2, 3]
    unknown = 0
    for raw in [*texts, *TEXTS, *SPECIALS, "a <EOS> b"]:
        ids = tokenizer.encode(normalise(raw, mode))
        unknown += ids.count(UNK)
        for theirs in (plain, told):
            assert theirs(raw)["input_ids"] == theirs(normalise(raw, mode))["input_ids"] == ids
            assert theirs.decode(ids) == tokenizer.decode(ids)
    assert (unknown > 0) == (name != "bpe")


@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_a_saved_tokenizer_comes_back_whole(
    saved: dict[tuple[str, str], tuple[Tokenizer, Path]], name: str, mode: str
) -> None:
    tokenizer, path = saved[name, mode]
    again = load_tokenizer(path)
    assert type(again) is type(tokenizer)
    assert again.config == tokenizer.config
    assert (again.vocabulary, again.normalise, again.dropped) == (tokenizer.vocabulary, mode, tokenizer.dropped)
    assert again.fingerprint == tokenizer.fingerprint
    assert len({other.fingerprint for other, _ in saved.values()}) == len(KINDS)


def damaged(file: dict[str, Any]) -> list[Any]:
    """A good file with one thing wrong in it, in many ways."""
    found: list[Any] = [[], None, 5, "x", {}, {**file, "model": []}]
    wrong: dict[str, list[Any]] = {
        "nanolm": [None, [], {}, {"config": {"name": "word"}}],
        "vocab": [[], {"a": 0}, {**file["model"]["vocab"], "new": 0}, {**file["model"]["vocab"], "new": 1e9}, {}],
    }
    wrong["merges"] = [None, ["a b"], [["a"]], [["<P", "AD>"]], [[1, 2]]] if "merges" in file["model"] else []
    for key, values in wrong.items():
        found += [{**file, "model": {**file["model"], key: value}} for value in values]
    notes: dict[str, list[Any]] = {
        "format": [0, "1", None],
        "normalise": ["lower", None, []],
        "config": [{}, 3, {"name": "wrod"}, {"name": "os"}, {"name": "word", "minfreq": "1"}, {"name": ["\x1b[31m"]}],
        "dropped": [] if "merges" in file["model"] else [5, [[1]], [["a", 1]], [[1, -1]], {"1": 2}],
    }
    for key, values in notes.items():
        for value in values:
            copied = copy.deepcopy(file)
            copied["model"]["nanolm"][key] = value
            found.append(copied)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_or_hostile_file_gives_one_line_that_names_it(
    saved: dict[tuple[str, str], tuple[Tokenizer, Path]], name: str, tmp_path: Path
) -> None:
    good = saved[name, "clean"][1].read_text()
    path = tmp_path / "tokenizer.json"
    cut = [good[: len(good) * i // 20] for i in range(20)]
    for text in [*cut, *map(json.dumps, damaged(json.loads(good))), "[" * 100_000]:
        path.write_text(text)
        with pytest.raises(NanolmError) as caught:
            load_tokenizer(path)
        assert str(path) in str(caught.value)
        assert str(caught.value).isprintable()
    with pytest.raises(NanolmError, match="missing"):
        load_tokenizer(tmp_path / "missing.json")


def test_a_file_too_long_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(2**30)
    with pytest.raises(NanolmError, match="too many"):
        load_tokenizer(tmp_path / "tokenizer.json")
