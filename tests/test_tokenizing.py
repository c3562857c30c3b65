"""The verb behind tokenize.py: its tables, its files, its cache, and text that would like to steer the terminal."""

from pathlib import Path

import pytest

from nanolm.cli.tokenize import printable, tokenize
from nanolm.corpus.corpus import load_corpus
from nanolm.data.files import Files
from nanolm.tokenizer.base import TokenizerConfig, load_tokenizer
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

LINES = [
    f"the army of general {name} waits in the city ." for name in ("lee", "kim", "ito", "ray", "abe", "cho", "dahl")
]


def corpus_file(folder: Path, lines: list[str]) -> Path:
    path = folder / "mine.txt"
    path.write_text("\n".join(f"{line} {i * 'very '}" for i in range(12) for line in lines))
    return path


@pytest.mark.parametrize("config", [CharConfig(), WordConfig(minfreq=30), BPEConfig(vocab_size=280)])
@pytest.mark.parametrize("normalise", ["clean", "none"])
def test_tokenize_shows_and_writes(
    config: TokenizerConfig, normalise: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Files(path=str(corpus_file(tmp_path, LINES)), normalise=normalise, val=0.2, test=0.2)
    tokenize(data, config, tmp_path / "outputs")
    said = capsys.readouterr().out
    assert "84 documents read" in said
    for row in (
        "vocabulary",
        "coverage",
        "<UNK>",
        "tokens per word",
        "bytes per token",
        "most frequent",
        "rarest kept",
    ):
        assert row in said
    (folder,) = (tmp_path / "outputs/tokenizers").iterdir()
    assert folder.name.startswith(f"{config.name}-")
    assert folder.name in said.replace("\n", "")
    assert (folder / "frequency_rank.png").read_bytes().startswith(b"\x89PNG")
    assert load_tokenizer(folder / "tokenizer.json").config == config


def test_the_numbers_are_those_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, config, outputs = Files(path=str(corpus_file(tmp_path, LINES))), WordConfig(minfreq=30), tmp_path / "outputs"
    tokenize(data, config, outputs)
    rows = {line[:15].strip(): line[15:].strip() for line in capsys.readouterr().out.splitlines()}
    corpus = load_corpus(data, outputs / "cache")
    words = [word for text in corpus.texts("train") for word in text.split()]
    kept = {word for word in words if words.count(word) >= 30}
    val = [word for text in corpus.texts("val") for word in text.split()]
    assert (
        rows["vocabulary"] == f"{len(kept) + 4} with 4 specials; {len(set(words)) - len(kept)} below minfreq left out"
    )
    assert rows["coverage"].startswith(f"{sum(word in kept for word in words) / len(words):.2%} ")
    assert rows["<UNK>"].startswith(f"{sum(word not in kept for word in val) / len(val):.2%} ")
    assert rows["tokens per word"].startswith("1.000")
    size = sum(len(text.encode()) for text in corpus.texts("val"))
    assert rows["bytes per token"].startswith(f"{size / len(val):.3f} ")
    assert rows["most frequent"].startswith(f"very {words.count('very')}, the {words.count('the')}")


def test_a_second_run_fits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Files(path=str(corpus_file(tmp_path, LINES)))
    tokenize(data, WordConfig(), tmp_path / "outputs")
    monkeypatch.setattr(WordConfig, "fit", None)
    tokenize(data, WordConfig(), tmp_path / "outputs")


def test_text_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"\x1b[31m [red]word[/red] [/] \x07 \x9b \u202e rtl {line}" for line in LINES]
    for config in (CharConfig(), WordConfig(), BPEConfig(vocab_size=400)):
        tokenize(Files(path=str(corpus_file(tmp_path, lines)), normalise="none"), config, tmp_path / "outputs")
        said = capsys.readouterr().out
        assert said.replace("\n", "").isprintable()
        assert "\\x1b" in said


def test_visible_marks_what_cannot_be_seen() -> None:
    assert printable("army") == "army"
    assert printable(" the") == "␣the"
    assert printable("\n") == r"'\n'"
    assert printable("\x1b[31m") == r"'\x1b[31m'"
    assert printable("[red]") == "[red]"
    assert len(printable("a" * 1000)) == 40
