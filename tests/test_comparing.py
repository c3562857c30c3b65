"""Comparing: what is folded, sorted, judged and drawn; baselines; W&B; broken folders; the command itself."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparing_runs import config, make_run
from tiny_run import tiny_config

from nanolm.comparing.cells import cell_texts, fitting
from nanolm.comparing.columns import COLUMNS, METRICS, Column, format_value
from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.figures import independent_knobs
from nanolm.comparing.records import Record, collect_records, find_runs, flatten, from_wandb, project_of, read_record
from nanolm.comparing.reference import add_baselines
from nanolm.comparing.table import Table
from nanolm.comparing.verdicts import ranked_tables
from nanolm.config import build
from nanolm.config import plain as plain_config
from nanolm.corpus.corpus import fit_tokenizer, load_corpus
from nanolm.data.files import Files
from nanolm.errors import ConfigError, NanolmError
from nanolm.files import write_json
from nanolm.scoring.baselines import gzip_bytes
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig
from nanolm.training.train import train

WORDS = ["dog", "cat", "army", "general", "dragon", "sea", "storm"]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A sweep over dims and heads with three seeds for one pair, and three runs that can't be ranked."""
    sweep = tmp_path / "sweeps" / "dims_heads"
    sweep.mkdir(parents=True)
    write_json(sweep / "sweep.json", {"swept": ["model.dims", "model.heads"], "started": 0})
    for dims in (32, 64):
        for heads in (2, 4):
            for seed in (1, 2, 3) if (dims, heads) == (64, 4) else (1,):
                values = config(model__dims=dims, model__heads=heads, seed=seed)
                make_run(sweep / f"dims={dims},heads={heads},seed={seed}", values, shift=0.002 * seed)

    (sweep / "heads=3").mkdir()
    write_json(sweep / "heads=3" / "status.json", {"state": "failed", "error": "model.heads=3: 64 is no multiple"})
    make_run(sweep / "going", config(model__dims=128), {"state": "running"})
    (make_run(sweep / "damaged", config(model__dims=128)) / "config.json").write_text("{")
    return tmp_path


def table_of(*runs: tuple[dict[str, Any], dict[str, Any]], sort: str = "test_bpb", by: tuple[str, ...] = ()) -> Table:
    """The one table of runs given as (changes of the config, status)."""
    full = {"state": "finished", "corpus": "c", "val_bpb": 2.0}
    records = [Record(f"run{i}", flatten(config(**c)), full | s) for i, (c, s) in enumerate(runs)]
    (table,), _ = ranked_tables(records, sort, by)
    return table


def test_folding_differing_columns_and_seeds(outputs: Path) -> None:
    records = collect_records(CompareConfig(sweep="latest", outputs=str(outputs)))
    (table,), unranked = ranked_tables(records, "test_bpb", [])
    assert table.knobs == ["model.dims", "model.heads"]
    assert sorted(table.frame["runs"]) == [1, 1, 1, 3]
    seeds = table.frame[table.frame["runs"] == 3].iloc[0]
    scores = [record.status["test_bpb"] for record in records if "dims=64,heads=4" in record.name]
    assert seeds["test_bpb"] == pytest.approx(np.mean(scores))
    assert seeds["test_bpb_sd"] == pytest.approx(np.std(scores, ddof=1))
    troubles = {Path(record.name).name: record.trouble for record in unranked}
    assert troubles.pop("heads=3") == "failed: model.heads=3: 64 is no multiple"
    assert troubles.pop("going") == "running"
    assert "checksum" in troubles.pop("damaged")
    assert not troubles


def test_parameters_tokens_and_compute_of_a_row(outputs: Path) -> None:
    (table,), _ = ranked_tables([read_record(outputs / "sweeps/dims_heads/dims=32,heads=2,seed=1")], "test_bpb", [])
    row = table.frame.iloc[0]
    body = 12 * 32**2 * 2 + 99
    assert (row["embedding"], row["body"]) == (3000 * 32, body)
    assert row["flops"] == 6 * (body + 3000 * 32) * 2_000_000
    assert row["test_ppl"] == 11.0
    untied = flatten({"parameters": {"embedding": 100, "output": 100, "mlp": 10}, "tokens": 1})
    assert table_of(({}, untied)).frame.iloc[0]["flops"] == 6 * 110


def test_a_seed_run_again_counts_once() -> None:
    table = table_of(({}, {"test_bpb": 3.0}), ({}, {"test_bpb": 2.0}), ({"seed": 2}, {"test_bpb": 2.2}))
    assert table.frame["runs"].tolist() == [2]
    assert table.frame["test_bpb"].tolist() == [pytest.approx(2.1)]
    assert any("Left out: 1 older" in note for note in table.notes)


def test_other_corpora_stand_in_other_tables() -> None:
    records = [Record(c, flatten(config()), {"state": "finished", "corpus": c, "val_bpb": 1.0}) for c in "baa"]
    records[1].config["seed"] = 2
    records[2].config["epochs"] = 3
    found, _ = ranked_tables(records, "val_bpb", [])
    assert [table.corpus for table in found] == ["a", "b"]


def test_sorting_and_grouping() -> None:
    scores = {(64, "word"): 2.0, (64, "char"): 2.2, (32, "word"): 2.3, (32, "char"): 2.1}
    runs = [({"model__dims": d, "tokenizer__name": t}, {"test_bpb": score}) for (d, t), score in scores.items()]
    assert table_of(*runs).frame["test_bpb"].tolist() == [2.0, 2.1, 2.2, 2.3]
    assert table_of(*runs, sort="-model.dims").frame["model.dims"].tolist() == [64, 64, 32, 32]
    assert table_of(*runs, sort="model.dims").frame["model.dims"].tolist() == [32, 32, 64, 64]
    grouped = table_of(*runs, by=("tokenizer",))
    assert grouped.frame["tokenizer"].tolist() == ["char", "char", "word", "word"]
    assert grouped.groups()["best"].tolist() == [2.1, 2.0]
    assert grouped.groups()["mean"].tolist() == [pytest.approx(2.15), pytest.approx(2.15)]
    assert grouped.frame["rank"].tolist() == [2, 3, 1, 4]
    assert len(table_of(*runs, by=("tokenizer", "model.dims")).groups()) == 4
    with pytest.raises(ConfigError, match=r"sort=tset_bpb: must be one of .*test_bpb"):
        table_of(*runs, sort="tset_bpb")


def test_sorting_a_column_with_gaps() -> None:
    runs = [({"epochs": value}, {"test_bpb": 2.0 + i}) for i, value in enumerate([None, 5.0, 1])]
    assert [format_value(value) for value in table_of(*runs, sort="epochs").frame["epochs"]] == ["1", "5", ""]


def test_without_a_test_split_val_decides() -> None:
    table = table_of(({"model__dims": 1}, {"val_bpb": 2.5}), ({"model__dims": 2}, {"val_bpb": 2.4}))
    assert (table.score, table.frame["val_bpb"].tolist()) == ("val_bpb", [2.4, 2.5])
    assert table.frame["low"].isna().all()
    assert any("it takes the bits of 20 from every run" in note for note in table.notes)


def test_knobs_that_others_decide_are_not_drawn() -> None:
    frame = pd.DataFrame({"tokenizer": ["a", "a", "b", "b"], "context": [1, 1, 2, 2], "dims": [3, 4, 3, 4]})
    assert independent_knobs(frame, list(frame)) == ["tokenizer", "dims"]


def test_which_folders(outputs: Path) -> None:
    sweep = outputs / "sweeps" / "dims_heads"
    make_run(outputs / "alone", config())
    assert find_runs(CompareConfig(outputs=str(outputs)))[0] == outputs / "alone"
    for spec in ("latest", "dims_heads", str(sweep)):
        assert len(find_runs(CompareConfig(sweep=spec, outputs=str(outputs)))) == 9
    assert len(find_runs(CompareConfig(runs=f"{sweep}/dims=64*"))) == 4
    with pytest.raises(NanolmError, match=r"sweep=nosuch: no such sweep"):
        find_runs(CompareConfig(sweep="nosuch", outputs=str(outputs)))
    with pytest.raises(NanolmError, match="sweep=latest: no such sweep"):
        find_runs(CompareConfig(sweep="latest", outputs=str(outputs / "alone")))
    with pytest.raises(NanolmError, match="nothing to compare"):
        collect_records(CompareConfig(outputs=str(outputs / "empty")))
    with pytest.raises(ConfigError, match="leave it out"):
        CompareConfig(sweep="latest", runs="outputs/**")


@pytest.mark.parametrize("damaged", ["status.json", "manifest.json", "metrics.csv", "test_bits.csv"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe\x00", b'{"files": {}, "format": 99}'])
def test_damaged_folders_are_listed(tmp_path: Path, damaged: str, content: bytes) -> None:
    make_run(tmp_path / "run", config())
    (tmp_path / "run" / damaged).write_bytes(content)
    record = read_record(tmp_path / "run")
    assert record.trouble
    assert "\n" not in record.trouble


def test_a_score_that_is_no_number_is_not_ranked(tmp_path: Path) -> None:
    make_run(tmp_path / "run", config(), {"val_bpb": math.nan, "test_bpb": None})
    assert read_record(tmp_path / "run").trouble == "finished without a finite score"


def test_the_best_is_chosen_by_val_and_test_is_reported_of_it() -> None:
    runs = [({"model__dims": d}, {"val_bpb": v, "test_bpb": t}) for d, v, t in [(1, 2.0, 2.3), (2, 2.1, 2.2)]]
    table = table_of(*runs, sort="val_bpb")
    assert table.frame["model.dims"].tolist() == [1, 2]
    assert table.frame["difference"].tolist() == [0, pytest.approx(-0.1)]
    assert table.frame["verdict"].iloc[0] == "the best"
    assert any("chosen by val; differences are those on test" in note for note in table.notes)
    by_test = table_of(*runs, sort="test_bpb")
    assert by_test.frame["model.dims"].tolist() == [2, 1]
    assert by_test.frame["rank"].tolist() == [1, 2]
    assert any("CHOSEN BY TEST" in note for note in by_test.notes)
    assert not any("CHOSEN BY TEST" in note for note in table.notes)
    assert CompareConfig().sort == "val_bpb"


def test_a_row_that_does_better_on_test_than_the_best_says_so(tmp_path: Path) -> None:
    for dims, val in ((64, 1.0), (32, 2.0)):  # val prefers the one that is worse by 0.12 on every test document
        shift = 0.5 if dims == 64 else 0.0
        make_run(tmp_path / f"{dims}", config(model__dims=dims), {"val_bpb": val}, shift=shift)
    (table,), _ = ranked_tables([read_record(tmp_path / name) for name in ("64", "32")], "val_bpb", [])
    assert table.frame["verdict"].tolist() == ["the best", "better on test (one seed)"]
    assert (table.frame["high"].iloc[1]) < 0


def test_runs_that_differ_in_their_precision_are_no_seeds_of_one_another(tmp_path: Path) -> None:
    for seed, precision in enumerate(("fp32", "bf16", "fp32")):
        make_run(tmp_path / f"{seed}", config(seed=seed, precision="auto"), {"precision": precision})
    (table,), _ = ranked_tables([read_record(tmp_path / f"{seed}") for seed in range(3)], "val_bpb", [])
    assert dict(zip(table.frame["precision"], table.frame["runs"], strict=True)) == {"fp32": 2, "bf16": 1}
    assert any("training: bf16 or fp32" in note for note in table.notes)
    (alike,), _ = ranked_tables([read_record(tmp_path / name) for name in ("0", "2")], "val_bpb", [])
    assert "precision" not in alike.knobs
    assert alike.notes[0] == "Precision of the training: fp32."


def test_runs_of_a_time_when_bf16_trained_and_scored_are_marked(tmp_path: Path) -> None:
    for seed, precision in enumerate(("fp32", "bf16")):
        folder = make_run(tmp_path / f"{seed}", config(seed=seed, precision="auto"))
        write_json(folder / "environment.json", {"precision": precision})
    (table,), _ = ranked_tables([read_record(tmp_path / f"{seed}") for seed in range(2)], "val_bpb", [])
    assert sorted(table.frame["precision"]) == ["bf16, scored in bf16 too", "fp32"]


def test_one_number_written_in_two_ways_is_one_configuration() -> None:
    table = table_of(({"epochs": 10, "seed": 1}, {"test_bpb": 2.0}), ({"epochs": 10.0, "seed": 2}, {"test_bpb": 2.2}))
    assert table.knobs == []
    assert table.frame["runs"].tolist() == [2]
    close = table_of(({"optim__lr": 0.0010000001}, {}), ({"optim__lr": 0.0010000002}, {}))
    assert len(close.frame) == 2


def test_a_new_metric_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    column = Column("watt hours", "{:.1f}".format, lambda status: status.get("energy"))
    monkeypatch.setitem(COLUMNS, "energy", column)
    monkeypatch.setitem(METRICS, "energy", column.metric)
    table = table_of(({"model__dims": 1}, {"energy": 3.25}), ({"model__dims": 2}, {}), sort="energy")
    assert cell_texts(table)["energy"].tolist() == ["3.2", ""]
    assert "watt hours" in fitting(cell_texts(table), 80)


def test_a_knob_may_bear_the_header_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "seconds", Column("minutes"))
    table = table_of(({"minutes": 1.0}, {"seconds": 60}), ({"minutes": 2.0}, {"seconds": 120}))
    assert fitting(cell_texts(table), 80).split().count("minutes") == 2


@pytest.mark.parametrize("width", [80, 60, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(outputs: Path, width: int) -> None:
    for dims in (16, 8):
        strange = {"tokenizer__a_knob_with_a_long_name": "x" * 50, "data__path": [f"{dims}" * 30, "b"]}
        make_run(outputs / f"strange{dims}", config(model__dims=dims, **strange))
    (table,), _ = ranked_tables(collect_records(CompareConfig(outputs=str(outputs))), "val_bpb", [])
    texts = fitting(cell_texts(table), width)
    assert max(map(len, texts.splitlines())) <= width
    for key in cell_texts(table):
        assert (COLUMNS[key].header if key in COLUMNS else key) in " ".join(texts.split())
    assert len(texts.split("\n\n")) > 1 or width == 200


def test_cells() -> None:
    assert [format_value(v) for v in (4096.0, 0.001, None, math.nan, "a", 12)] == ["4096", "0.001", "", "", "a", "12"]
    table = table_of(({"model__dims": 1}, {"test_bpb": 2.5}), ({"model__dims": 2}, {"test_bpb": 2.4}))
    texts = cell_texts(table)
    assert "test_unk_rate" not in texts  # nothing is known about it
    assert list(texts)[:5] == ["rank", "model.dims", "runs", "val_bpb", "test_bpb"]


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
    monkeypatch.setattr("nanolm.comparing.records.has_account", lambda: False)
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
