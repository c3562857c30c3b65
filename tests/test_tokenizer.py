"""The tokenizers: vocabulary, round trips, special-looking text, long texts in parts."""

import subprocess
import sys
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import pytest
from fitted_tokenizers import ANY, CONFIGS, KINDS, fitted
from hypothesis import given, settings

import nanolm.tokenizer
from nanolm.config import build, options
from nanolm.errors import ConfigError
from nanolm.text import MODES, normalise
from nanolm.tokenizer.base import EOS, PAD, SPECIALS, UNK, load_tokenizer
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig


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


@pytest.mark.parametrize(("name", "mode"), KINDS)
@settings(max_examples=60, deadline=None)
@given(raw=ANY)
def test_a_long_text_in_parts_gives_the_same_ids(name: str, mode: str, raw: str) -> None:
    tokenizer, text = fitted(name, mode), normalise(raw, mode)
    with patch("nanolm.text.PART", 3):
        parts = list(tokenizer.encode_parts(text))
        assert fitted(name, mode).fingerprint == tokenizer.fingerprint
    assert list(chain.from_iterable(parts)) == tokenizer.encode(text)
    assert len(parts) > 1 or len(text) < 50 or name != "char"


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
