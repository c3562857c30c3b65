"""The table of runs: folded, sorted, grouped, ranked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparing_runs import config, make_outputs, make_run

from nanolm.comparing.cells import cell_texts, fitting
from nanolm.comparing.collect import collect_records, read_record
from nanolm.comparing.columns import COLUMNS, METRICS, Column, format_value
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.figures import independent_knobs
from nanolm.comparing.record import Record, find_runs, flatten
from nanolm.comparing.table import Table
from nanolm.comparing.verdicts import ranked_tables
from nanolm.errors import ConfigError, NanolmError
from nanolm.files import write_json


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """See make_outputs."""
    return make_outputs(tmp_path)


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
