"""Minimal pairs: the likelier text is chosen by the model's own bits; unknown words are told apart."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import untrained

from nanolm.cli.benchmark import benchmark, read_pairs
from nanolm.errors import ConfigError, DataError
from nanolm.runs.run import Run
from nanolm.scoring.pairs import Pair, accuracies, interval, score_pairs
from nanolm.scoring.speller import Speller
from nanolm.tokenizer.base import BOS, EOS

ROWS: list[dict[str, Any]] = [
    {"good": "The dog wins!", "bad": "the dog fight", "field": "syntax", "uid": "a"},
    {"good": "a spy falls", "bad": "a spy zorblax", "field": "syntax", "uid": "b"},
    {"good": "the sea.", "bad": "The sea!", "field": "meaning", "uid": "b"},
    {"good": "love a dragon", "bad": "dragon a love", "field": "meaning", "uid": "c"},
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = untrained.run(tmp_path)
    Speller(["quay", "zebra"]).save(made.folder / "speller.json")
    made.list_files("speller.json")
    return made


def test_bits_are_the_models_own_and_the_spellers(run: Run) -> None:
    model, words, speller = run.model(), run.tokenizer(), Speller.load(run.folder / "speller.json")
    pairs = [Pair(row["good"], row["bad"], ()) for row in ROWS]
    table = score_pairs(pairs, model, words, speller, torch.device("cpu"), "fp32")
    assert table["known"].tolist() == [True, False, True, True]
    assert table["same"].tolist() == [False, False, True, False]
    for row in table.itertuples():
        for text, bits in ((row.good, row.good_bits), (row.bad, row.bad_bits)):
            ids = torch.tensor([[BOS, *words.encode(text), EOS]])
            nats = float(model.nats(ids[:, :-1], ids[:, 1:]).sum())
            spelling = sum(speller.bits(word) for word in words.unknown(text))
            assert bits == pytest.approx(nats / math.log(2) + spelling, abs=1e-4)


def test_accuracies_of_sets_that_are_known() -> None:
    columns = ["field", "good_bits", "bad_bits", "known", "same"]
    rows = [
        ["a", 1, 2, True, False],
        ["a", 2, 1, True, False],
        ["a", 5, 5, True, False],
        ["b", 1, 9, False, False],
        ["b", 1, 1, True, True],
    ]
    found = accuracies(pd.DataFrame(rows, columns=columns), ["field"]).set_index(["set", "name"])
    assert found.loc[("all", "")][["pairs", "known", "accuracy", "spelled"]].tolist() == [4, 3, 0.5, 2.5 / 4]
    assert found.loc[("field", "a"), "accuracy"] == 0.5
    assert found.loc[("field", "b")][["pairs", "known", "spelled"]].tolist() == [1, 0, 1]
    assert math.isnan(found.loc[("field", "b"), "accuracy"])


def test_intervals_are_wilsons() -> None:
    assert interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson 1927, by hand
    low, high = interval(0, 20)
    assert (low, round(high, 4)) == (0, 0.1611)
    assert interval(20, 20)[1] == 1


def test_the_verb_counts_coverage(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    assert read_pairs(str(tmp_path / "pairs")) == read_pairs(str(file))
    found = benchmark(str(run.folder), str(file), tmp_path / "out")
    out = capsys.readouterr().out
    assert "1 pairs are the same text twice" in out
    assert found["set"].tolist() == ["all", "field", "field", "uid", "uid", "uid"]
    assert found[["pairs", "known"]].iloc[0].tolist() == [3, 2]
    [folder] = (tmp_path / "out" / "benchmarks").iterdir()
    table = pd.read_csv(folder / "pairs.csv")
    assert table["field"].tolist() == [row["field"] for row in ROWS]
    known = table[table["known"] & ~table["same"]]
    assert found["accuracy"][0] == (known["good_bits"] < known["bad_bits"]).mean()


@pytest.mark.parametrize("line", ["[]", '{"good": "a"}', '{"good": "a", "bad": 1}', "the dog barks", "\n"])
def test_a_line_without_a_pair_is_named(line: str, tmp_path: Path) -> None:
    first = "" if line == "\n" else json.dumps(ROWS[0]) + "\n"
    (tmp_path / "pairs.jsonl").write_text(first + line)
    says = r"pairs\.jsonl: line 2" if first else r"pairs\.jsonl: holds no pairs"
    with pytest.raises(DataError, match=says):
        read_pairs(str(tmp_path / "pairs.jsonl"))


def test_what_makes_no_sense_with_a_benchmark_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: benchmark=x is scored instead"):
        benchmark(str(run.folder), "x", typed=["run", "data.path"])
    with pytest.raises(DataError, match="benchmark"):
        benchmark(str(run.folder), str(tmp_path / "nothing.jsonl"))
