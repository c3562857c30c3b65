"""generate.py: a run loaded, what it prints, prompts typed and from a pipe, jsonl."""

import io
import json
import sys
from pathlib import Path

import pytest
from tiny_generator import tokenizer
from tiny_run import tiny_config

from nanolm import load
from nanolm.cli.generate import for_terminal, generate, piped_lines
from nanolm.config import plain
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.errors import ConfigError, NanolmError
from nanolm.model.transformer import Transformer
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder with one run in it, never trained."""
    config = tiny_config(tmp_path, model={"context": 24})
    words = tokenizer()
    network = Transformer(config.model, len(words), 24)
    folder = tmp_path / "out" / "one"
    run = Run.create(folder, plain(config), {}, {"tokenizer.json": words.save})
    write_weights(run.folder / BEST, network.state_dict(), {})
    return tmp_path / "out"


def test_a_run_is_loaded_and_written_with(outputs: Path) -> None:
    for made in (load("latest", outputs=outputs), load(str(outputs / "one"), precision="fp32")):
        assert made.run == outputs / "one"
        assert made.generate("the army general", seed=1, num_beams=10).startswith("the army general")
    assert load("one", outputs=outputs, precision="bf16").generate("the dog", seed=3, max_new_tokens=5)
    with pytest.raises(NanolmError, match="no run"):
        load("best", outputs=outputs / "one" / "none")
    with pytest.raises(ConfigError, match="which=worst"):
        load("latest", outputs=outputs, which="worst")


def test_the_verb_writes_only_text_to_stdout(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate("latest", "the dog zorb", Sample(), 1, outputs)
    out, err = capsys.readouterr()
    assert out == load("latest", outputs=outputs).generate("the dog zorb", Sample(), seed=1) + "\n"
    assert "zorb" in err
    assert "tokens/s" in err
    with pytest.raises(ConfigError, match="seed=-1"):
        generate("latest", "the dog", Sample(), -1, outputs)
    generate("latest", "the dog", Beam(num_return_sequences=3), None, outputs)
    assert capsys.readouterr().out.count("\n\n") == 2


def test_without_a_prompt_the_verb_reads_lines(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("the dog\n\nthe sea"))
    generate("latest", None, Greedy(), None, outputs)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("the dog")
    assert lines[2].startswith("the sea")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_prompts_from_a_pipe_are_text_whatever_its_form(encoding: str, ends: str, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes(f"the café{ends}{ends}the sea".encode(encoding))
    with open(tmp_path / "prompts", encoding="ascii") as file:
        assert list(piped_lines(file)) == ["the café", "", "the sea"]
        assert not file.buffer.closed


def test_a_pipe_in_another_encoding_is_one_line_with_a_guess(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes("the naïve café – “quoted”\n".encode("cp1252"))
    with (
        open(tmp_path / "prompts") as file,
        pytest.raises(NanolmError, match=r"^stdin: not UTF-8, .*iconv -f \w+ -t UTF-8"),
    ):
        list(piped_lines(file))


def test_what_is_told_of_a_texts_end_comes_after_it(
    outputs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    generate("latest", "the dog", Greedy(max_new_tokens=90, min_new_tokens=90), None, outputs)
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("the dog")
    assert lines[2].startswith("decode.max_new_tokens=90: the context of 24 was full")


def test_jsonl_holds_what_a_program_needs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Sample(num_return_sequences=3, max_new_tokens=6)
    generate("latest", "The café", config, 4, outputs, output="jsonl")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [found] = load("latest", outputs=outputs).complete(["The café"], config, seed=4)
    for row, one in zip(rows, found, strict=True):
        assert row == {key: getattr(one, key) for key in ("prompt", "text", "tokens", "logprob", "finished")}
    with pytest.raises(ConfigError, match="output=xml: must be one of text, jsonl"):
        generate("latest", "the dog", config, 4, outputs, output="xml")


def test_what_a_terminal_might_obey_is_shown() -> None:
    assert for_terminal("a\tb\nc é 🐉") == "a\tb\nc é 🐉"
    assert for_terminal("\x1b[31m\r\x07\x9b\u202e\ud800\x00") == "\\x1b[31m\\r\\x07\\x9b\\u202e\\ud800\\x00"
