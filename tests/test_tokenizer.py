"""The tokenizers: vocabulary, round trips, special-looking text, and tokenizer.json opened by other people's code."""

import copy
import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import nanolm.tokenizer
from nanolm.config import build, options
from nanolm.errors import ConfigError, NanolmError
from nanolm.text import MODES, normalise
from nanolm.tokenizer.base import EOS, PAD, SPECIALS, UNK, Tokenizer, TokenizerConfig, load_tokenizer
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

DATA = Path(__file__).parents[2] / "shared/data"
TEXTS = [
    "The general's army [1] is sent to the city. The army waits!",
    "A café, an <EOS> and <PAD><BOS>; naïve   spaces\n\nand\ttabs. ΟΔΟΣ 漢字 🎬",
    "The <UNK> of the city... eos bos pad unk",
]
CONFIGS: dict[str, TokenizerConfig] = {
    "char": CharConfig(minfreq=2),
    "word": WordConfig(minfreq=2),
    "bpe": BPEConfig(vocab_size=280),
}
KINDS = [(name, mode) for name in CONFIGS for mode in MODES]
# every character that this Python's Unicode tables know; half of the letters ones that occur in TEXTS or spell specials
KNOWN = st.characters(codec="utf-8", exclude_categories=["Cn"], exclude_characters="Σ")
TEXT = st.text(st.one_of(KNOWN, st.sampled_from("aehist .,!?<>[]1'\n\t\u00a0\x1c\u0301İ")))
ANY = st.lists(st.one_of(TEXT, st.text(), st.sampled_from([*SPECIALS, *TEXTS])), max_size=4).map(" ".join)


def fitted(name: str, mode: str, texts: list[str] = TEXTS) -> Tokenizer:
    return CONFIGS[name].fit((normalise(text, mode) for text in texts), mode)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Tokenizer, Path]]:
    """Each kind under each normalisation, with its file."""
    folder = tmp_path_factory.mktemp("tokenizers")
    made = {kind: (fitted(*kind), folder / f"{'-'.join(kind)}.json") for kind in KINDS}
    for tokenizer, path in made.values():
        tokenizer.save(path)
    return made


def test_vocabulary_is_by_falling_count_then_by_text() -> None:
    tokenizer = WordConfig(minfreq=2).fit(["b a d", "a c b", "c e"], "clean")
    assert tokenizer.vocabulary == [*SPECIALS, "a", "b", "c"]
    assert tokenizer.dropped == {1: 2}
    assert tokenizer.encode("c zebra a") == [6, UNK, 4]
    assert tokenizer.unknown("c zebra a") == ["zebra"]
    assert tokenizer.decode([2, 6, UNK, 4, 3, 0]) == "c <UNK> a"
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_char_counts_characters() -> None:
    tokenizer = CharConfig().fit(["abba c"], "none")
    assert tokenizer.vocabulary == [*SPECIALS, "a", "b", " ", "c"]
    assert tokenizer.encode("cab!") == [7, 4, 5, UNK]


@pytest.mark.parametrize("mode", MODES)
def test_bpe_has_all_bytes_and_the_size_asked_for(mode: str) -> None:
    tokenizer = fitted("bpe", mode)
    assert len(tokenizer) == 280
    assert tuple(tokenizer.vocabulary[:4]) == SPECIALS
    assert sum(len(token) == 1 for token in tokenizer.vocabulary) == 256
    assert tokenizer.fingerprint == fitted("bpe", mode).fingerprint
    assert tokenizer.decode_token(EOS) == "<EOS>"
    assert tokenizer.decode([UNK, *tokenizer.encode("a"), PAD]) == "<UNK>a"


@pytest.mark.parametrize(("name", "mode"), KINDS)
@settings(max_examples=100, deadline=None)
@given(raw=ANY)
def test_decoding_gives_the_text_back(name: str, mode: str, raw: str) -> None:
    text = normalise(raw, mode)
    tokenizer = build("tokenizer", {"name": name}).fit([text, "a"], mode)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.unknown(text)
    assert UNK not in ids
    if name != "bpe":
        assert "".join(map(tokenizer.decode_token, ids)) == text.replace(
            " ", "" if (name, mode) == ("word", "clean") else " "
        )


@pytest.mark.parametrize(("name", "mode"), KINDS)
@settings(max_examples=60, deadline=None)
@given(raw=ANY)
def test_text_that_looks_like_a_special_token_is_text(name: str, mode: str, raw: str) -> None:
    often = ["<EOS><EOS> <EOS> <PAD> <UNK> <BOS>" * 50]
    tokenizer = CONFIGS[name].fit(often, mode)  # as typed: not even normalised
    for text in (raw, normalise(raw, mode), *SPECIALS):
        ids = tokenizer.encode(text.encode(errors="replace").decode())
        assert not {0, 2, 3} & set(ids)
        assert ids.count(UNK) == len(tokenizer.unknown(text))


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


def test_what_cannot_be_fitted_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.minfreq=3: must be at most 2"):
        WordConfig(minfreq=3).fit(["a a b"], "clean")
    with pytest.raises(ConfigError, match=r"tokenizer\.minfreq=0: must be at least 1"):
        CharConfig(minfreq=0)
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=259: must be at least 260"):
        BPEConfig(vocab_size=259)


def test_an_option_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(nanolm.tokenizer.__path__[0], "char.py").read_text()
    (tmp_path / "folded.py").write_text(
        source.replace("return text\n", "return text.upper()\n").replace('"char"', '"folded"')
    )
    monkeypatch.setattr(nanolm.tokenizer, "__path__", [*nanolm.tokenizer.__path__, str(tmp_path)])
    options.cache_clear()
    try:
        tokenizer = build("tokenizer", {"name": "folded"}).fit(["ab"], "none")
        tokenizer.save(tmp_path / "tokenizer.json")
        assert load_tokenizer(tmp_path / "tokenizer.json").encode("Ba") == [5, 4]
    finally:
        options.cache_clear()


def test_configs_import_nothing_heavy() -> None:
    heavy = {"tokenizers", "torch", "numpy"}
    code = f"import sys, nanolm.config as c; c.options('tokenizer'); print(sys.modules.keys() & {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
