"""Minimal pairs: the likelier text is chosen by the model's own bits; unknown words are told apart."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import untrained
from tiny_run import tiny_config

from nanolm.cli.benchmark import benchmark, read_pairs
from nanolm.errors import ConfigError, DataError
from nanolm.runs.run import Run
from nanolm.runs.weights import read_weights, write_weights
from nanolm.scoring.pairs import Pair, PairTexts, accuracies, interval
from nanolm.scoring.score import encoded_nats
from nanolm.scoring.speller import Speller
from nanolm.tokenizer.base import BOS, EOS
from nanolm.training.train import train

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
    texts = PairTexts(pairs, words, speller)
    table = texts.table
    nats = encoded_nats(model, texts.encoded, model.context, torch.device("cpu"))
    found, own = texts.bits(nats), texts.token_bits(nats)
    assert table["known"].tolist() == [True, False, True, True]
    assert table["same"].tolist() == [False, False, True, False]
    for row, both, alone in zip(table.itertuples(), found, own, strict=True):
        for text, bits, tokens in zip((row.good, row.bad), both, alone, strict=True):
            ids = torch.tensor([[BOS, *words.encode(text), EOS]])
            each = model.nats(ids[:, :-1], ids[:, 1:]).flatten() / math.log(2)
            spelling = sum(speller.bits(word) for word in words.unknown(text))
            assert bits == pytest.approx(float(each.sum()) + spelling, abs=1e-4)
            assert tokens == pytest.approx(float(each[:-1].sum()), abs=1e-4)


def test_accuracies_of_sets_that_are_known() -> None:
    columns = ["field", "known", "same", "good_exact", "bad_exact"]
    rows = [
        ["a", True, False, 7, 10],
        ["a", True, False, 7, 9],
        ["a", True, False, 7, math.inf],
        ["b", False, False, 7, 8],
        ["b", True, True, 7, 7],
    ]
    bits = np.array([[1, 2], [2, 1], [5, 5], [1, 9], [1, 1]])
    found = accuracies(pd.DataFrame(rows, columns=columns), ["field"], bits).set_index(["set", "name"])
    assert found.loc[("field", "a"), ["exact_odds", "odds", "off"]].tolist() == [2.5, 0, 2.5]
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
    assert "left out as the same text twice once they are normalised: 1 pair\n" in out
    assert found["set"].tolist() == ["all", "field", "field", "uid", "uid", "uid"]
    assert found[["pairs", "known"]].iloc[0].tolist() == [3, 2]
    [folder] = (tmp_path / "out" / "benchmarks").iterdir()
    table = pd.read_csv(folder / "pairs.csv")
    assert table["field"].tolist() == [row["field"] for row in ROWS]
    known = table[table["known"] & ~table["same"]]
    assert found["accuracy"][0] == (known["good_bits"] < known["bad_bits"]).mean()
    other = table[~table["same"]]
    assert found["tokens"][0] == (other["good_tokens"] < other["bad_tokens"]).mean()


@pytest.mark.parametrize("line", ["[]", '{"good": "a"}', '{"good": "a", "bad": 1}', "the dog barks", "\n"])
def test_a_line_without_a_pair_is_named(line: str, tmp_path: Path) -> None:
    first = "" if line == "\n" else json.dumps(ROWS[0]) + "\n"
    (tmp_path / "pairs.jsonl").write_text(first + line)
    says = r"pairs\.jsonl: line 2" if first else r"pairs\.jsonl: holds no pairs"
    with pytest.raises(DataError, match=says):
        read_pairs(str(tmp_path / "pairs.jsonl"))


def test_over_checkpoints_there_is_a_curve(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    with pytest.raises(ConfigError, match=r"checkpoints=true: .* has kept none"):
        benchmark(str(run.folder), str(file), tmp_path / "out", checkpoints=True)
    tensors, _ = read_weights(run.weights())
    for step, scale in ((0, 0.0), (70, 1.0)):
        name = f"step-{step}.safetensors"
        write_weights(run.folder / name, {key: scale * value for key, value in tensors.items()}, {"step": step})
        run.list_files(name)
    found = benchmark(str(run.folder), str(file), tmp_path / "out", checkpoints=True)
    assert "no 5-gram beside: " in capsys.readouterr().err  # an untrained run has no corpus
    [folder] = (tmp_path / "out" / "benchmarks").iterdir()
    assert (folder / "curve.png").read_bytes()[:4] == b"\x89PNG"
    curve = pd.read_csv(folder / "curve.csv")
    assert curve["step"].tolist() == [0] * len(found) + [70] * len(found)
    last = curve[curve["step"] == 70]  # the same weights as the best ones
    assert last["accuracy"].tolist() == pytest.approx(found["accuracy"].tolist(), nan_ok=True)


def test_a_5_gram_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out" / "run"
    train(tiny_config(tmp_path, epochs=1), folder=folder)
    rows = [{"good": "ada finds a ship", "bad": "ada ship a finds"}, {"good": "bert loses the old map", "bad": "map"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = benchmark(str(folder), str(tmp_path / "pairs.jsonl"), tmp_path / "out")
    assert found["accuracy_5gram"].tolist() == [0.5]  # of the second pair the wrong text is much shorter
    assert "5-gram" in capsys.readouterr().out


def test_what_makes_no_sense_with_a_benchmark_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: benchmark=x is scored instead"):
        benchmark(str(run.folder), "x", typed=["run", "data.path"])
    with pytest.raises(DataError, match="benchmark"):
        benchmark(str(run.folder), str(tmp_path / "nothing.jsonl"))
