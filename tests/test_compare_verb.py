"""compare.py: its files and page, baselines beside runs, runs from W&B."""

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from comparing_runs import config, make_outputs, make_run
from tiny_run import tiny_config

from nanolm.comparing.collect import collect_records, from_wandb, project_of, read_record
from nanolm.comparing.columns import format_value
from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.reference import add_baselines
from nanolm.comparing.verdicts import ranked_tables
from nanolm.config import build
from nanolm.config import plain as plain_config
from nanolm.corpus.corpus import fit_tokenizer, load_corpus
from nanolm.data.files import Files
from nanolm.errors import ConfigError, NanolmError
from nanolm.scoring.baselines import gzip_bytes
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig
from nanolm.training.train import train


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """See make_outputs."""
    return make_outputs(tmp_path)


WORDS = ["dog", "cat", "army", "general", "dragon", "sea", "storm"]
ROOT = Path(__file__).resolve().parent.parent


def test_compare_writes_table_figures_and_page(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = compare(CompareConfig(sweep="latest", outputs=str(outputs), baselines=False))
    assert made.parent == outputs / "compare" / "dims_heads"
    text = capsys.readouterr().out
    assert "within the noise" in text
    assert "not ranked" in text
    assert "\x1b" not in text  # no terminal, no colours
    assert max(map(len, text.split(str(outputs))[0].splitlines())) <= 80
    assert len(pd.read_csv(made.parent / "compare.csv")) == 4 + 3
    pictures = {path.name.removesuffix(".png"): path.read_bytes()[:4] for path in made.parent.glob("*.png")}
    wanted = {
        "heat_map",
        "knob_model.dims",
        "knob_model.heads",
        "loss_over_tokens",
        "loss_over_seconds",
        "parameters",
        "training_FLOPs",
    }
    assert set(pictures) == wanted
    assert set(pictures.values()) == {b"\x89PNG"}


def test_one_run_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "only", config())
    made = compare(CompareConfig(outputs=str(tmp_path), baselines=False))
    assert made.parent.parent == tmp_path / "compare"


@pytest.fixture
def on_text(tmp_path: Path) -> Path:
    """Two runs on a text file: with a char and with a word tokenizer."""
    lines = [f"the {a} of {b} meets the {c} ." for a, b, c in product(WORDS, repeat=3)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    data = Files(path=str(tmp_path / "mine.txt"), val=0.1, test=0.1)
    corpus = load_corpus(data, tmp_path / "cache")
    for kind in (CharConfig(), WordConfig()):
        values = config(data=plain_config(data), tokenizer=plain_config(kind))
        tokenizer = fit_tokenizer(kind, corpus, tmp_path / "cache")
        make_run(tmp_path / kind.name, values, {"corpus": corpus.fingerprint, "test_floor": 0.5}, save=tokenizer.save)
    return tmp_path


def test_baselines_stand_in_the_same_table(on_text: Path) -> None:
    (table,), _ = ranked_tables([read_record(on_text / "char"), read_record(on_text / "word")], "test_bpb", [])
    add_baselines(table, on_text / "cache")
    rows = table.frame.set_index(table.frame["rank"].map(format_value))
    assert rows["test_bpb"].is_monotonic_increasing
    assert table.runs["tokenizer"].tolist() == ["word", "char"]
    assert rows.loc["floor", "test_bpb"] == 0.5
    assert set(rows.loc["kneser ney 5", "tokenizer"]) == {"char", "word"}
    assert rows.loc["unigram", "test_bpb"].max() < rows.loc["uniform", "test_bpb"].max()
    assert len(rows) == 2 + 2 * 3 + 3 + 1
    corpus = load_corpus(Files(path=str(on_text / "mine.txt"), val=0.1, test=0.1), on_text / "cache")
    packed = 8 * gzip_bytes(corpus.texts("test")) / corpus.nbytes("test").sum()
    assert rows.loc["gzip", "test_bpb"] == pytest.approx(packed)


@pytest.mark.slow
def test_char_word_and_bpe_runs_over_the_same_documents_stand_in_one_table(tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {"char": {}, "word": {"minfreq": 20}, "bpe": {"vocab_size": 300}}
    for kind, how in kinds.items():
        tokenizer = build("tokenizer", {"name": kind} | how)
        train(replace(tiny_config(tmp_path, epochs=1), tokenizer=tokenizer), folder=tmp_path / "out" / kind)
    records = collect_records(CompareConfig(outputs=str(tmp_path / "out")))
    (table,), unranked = ranked_tables(records, "test_bpb", [])
    assert set(table.frame["tokenizer"]) == kinds.keys()
    assert not unranked
    texts = load_corpus(tiny_config(tmp_path).data, tmp_path / "out" / "cache").texts("test")
    for record in records:
        assert record.bits["bytes"].tolist() == [len(text.encode()) + 1 for text in texts]
        assert record.status["test_bpb"] == pytest.approx(record.bits["bits"].sum() / record.bits["bytes"].sum())
        assert (record.status["test_unk_rate"] > 0) == (record.config["tokenizer"] == "word")


@pytest.mark.parametrize(("change", "says"), [("gone", "no such file"), ("other", "has changed since")])
def test_without_the_text_there_are_no_baselines_and_a_word(on_text: Path, change: str, says: str) -> None:
    (on_text / "mine.txt").unlink()
    if change == "other":
        (on_text / "mine.txt").write_text(
            "\n".join(f"another line of {a} and {b}" for a, b in product(WORDS, repeat=2))
        )
    (table,), _ = ranked_tables([read_record(on_text / "word")], "test_bpb", [])
    add_baselines(table, on_text / "cache")
    assert table.frame["rank"].map(format_value).tolist() == ["floor", "1"]
    assert any(says in note for note in table.notes)


class FakeApi:
    """What of wandb.Api is used."""

    def __init__(self, runs: list[Any]) -> None:
        self.found = runs
        self.asked: tuple[str, dict[str, Any]] = ("", {})

    def runs(self, path: str, filters: dict[str, Any]) -> list[Any]:
        if path.endswith("missing"):
            raise ValueError("Could not find project missing")
        self.asked = (path, filters)
        return self.found


def fake_run(name: str, state: str = "finished", **changes: Any) -> Any:
    """A run as the API gives it: the corpus and the parameters stand in its config."""
    values = config(**changes) | {"corpus": "c", "vocabulary": 10, "parameters": {"embedding": 5, "mlp": 7}}
    history = pd.DataFrame({"tokens": [1, 2], "seconds": [1.0, 2.0], "train_loss": [3.0, 2.0]})
    summary = {"val_bpb": 2.0 + len(name), "test_bpb": 2.1 + len(name), "tokens": 9}
    return SimpleNamespace(name=name, state=state, config=values, summary=summary, history=lambda samples: history)


def test_runs_from_wandb() -> None:
    api = FakeApi([fake_run("a", model__dims=1), fake_run("bb", model__dims=2), fake_run("c", "crashed")])
    records = from_wandb(CompareConfig(source="wandb", project="me/p", sweep="dims"), api)
    assert api.asked == ("me/p", {"group": "dims"})
    (table,), unranked = ranked_tables(records, "test_bpb", [])
    assert table.corpus == "c"
    assert table.knobs == ["model.dims"]
    assert table.frame["body"].tolist() == [7, 7]
    assert [record.trouble for record in unranked] == ["crashed"]


def test_the_project_is_the_environments_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    assert project_of(CompareConfig()) == "nanolm"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert project_of(CompareConfig()) == "theirs"
    assert project_of(CompareConfig(project="mine")) == "mine"


def test_wandb_without_account_or_project_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NanolmError, match=r"project=missing: ValueError: Could not find"):
        from_wandb(CompareConfig(source="wandb", project="missing"), FakeApi([]))
    monkeypatch.setattr("nanolm.comparing.collect.has_account", lambda: False)
    with pytest.raises(NanolmError, match="no W&B account"):
        collect_records(CompareConfig(source="wandb"))
    with pytest.raises(ConfigError, match="names folders"):
        CompareConfig(source="wandb", runs="x")


@pytest.mark.slow
def test_the_command(outputs: Path) -> None:
    command = [sys.executable, "compare.py", "baselines=false", f"outputs={outputs}", "by=[model.dims]"]
    done = subprocess.run([*command, "sweep=latest"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "by group" in done.stdout
    wrong = subprocess.run([*command, "sweep=a,b"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("compare.py: sweep=a,b: no such sweep")
    assert wrong.stderr.count("\n") == 1
