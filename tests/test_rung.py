"""A run that a sweep stops at a rung and lets go on is bit for bit one that was never stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import rows, tiny_config

from nanolm.comparing.collect import read_record
from nanolm.comparing.record import why_unranked
from nanolm.corpus.corpus import encode_corpus
from nanolm.errors import RunError
from nanolm.files import sha256
from nanolm.model.transformer import Transformer
from nanolm.runs.find import find_run
from nanolm.runs.run import Run
from nanolm.scoring.score import encoded_nats, score_nats
from nanolm.scoring.speller import spelling_bits
from nanolm.training.plan import rung_step
from nanolm.training.train import train


def files(run: Path) -> dict[str, str]:
    names = ["best.safetensors", "test_bits.csv", "val_bits.csv", "tokenizer.json", "config.json"]
    return {name: sha256(run / name) for name in names}


@pytest.mark.parametrize("how", [{}, {"ema": 0.9, "accumulate": 2, "patience": 3, "model": {"dropout": 0.2}}])
def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(tmp_path: Path, how: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"run_name": "job", "eval_every": 4} | how
    whole, stopped = tmp_path / "out" / "whole", tmp_path / "out" / "stopped"
    train(tiny_config(tmp_path, **fields), folder=whole)
    at_first = train(tiny_config(tmp_path, **fields), folder=stopped, until=0.2)
    status = json.loads((stopped / "status.json").read_text())
    assert (status["state"], status["rung"], status["rung_bpb"]) == ("stopped", 0.2, at_first)
    train(tiny_config(tmp_path, resume=str(stopped)), ["resume=..."], until=0.55)
    rungs = json.loads((stopped / "rungs.json").read_text())
    assert [rung["step"] for rung in rungs] == [rung_step(share, rungs[0]["of"]) for share in (0.2, 0.55)]
    assert sum(rungs[0]["bits"]) / sum(rungs[0]["bytes"]) == pytest.approx(at_first)
    train(tiny_config(tmp_path, resume=str(stopped)), ["resume=..."])
    assert files(stopped) == files(whole)
    assert rows(stopped) == rows(whole)
    assert json.loads((stopped / "status.json").read_text())["state"] == "finished"


def test_a_stopped_run_is_not_ranked_and_is_not_the_best(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, eval_every=1)
    train(config, folder=tmp_path / "out" / "stopped", until=0.5)
    record = read_record(tmp_path / "out" / "stopped")
    assert record.trouble.startswith("stopped at 50%: ")
    assert why_unranked({"state": "stopped", "rung": 0.5, "rung_bpb": 2.0}).startswith("stopped at 50%: 2.0000")
    with pytest.raises(RunError, match="no run on the corpus"):
        find_run("best", tmp_path / "out")


def test_a_rung_is_judged_by_the_mean_of_the_weights_of_its_second_half(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "job"
    score = train(tiny_config(tmp_path, keep_every=1), folder=folder, until=0.6)
    run = Run.open(folder)
    [rung] = json.loads((folder / "rungs.json").read_text())
    steps = range(rung_step(0.6, rung["of"]) // 2 + 1, rung["step"] + 1)
    states = [run.model(f"step-{step}").state_dict() for step in steps]
    model = run.model("last")
    model.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    cache = folder.parent / "cache"
    corpus = run.corpus(cache)
    encoded = encode_corpus(corpus, run.tokenizer(), cache)["val"]
    spelling = spelling_bits(corpus, "val", run.tokenizer(), cache)

    def bpb(scored: Transformer) -> float:
        nats = encoded_nats(scored, encoded, scored.context, scored.device)
        return score_nats(nats, encoded, corpus.nbytes("val"), spelling).bpb

    assert score == rung["val_bpb"] == pytest.approx(bpb(model), rel=1e-6)
    assert score != pytest.approx(bpb(run.model("last")), rel=1e-3)


def test_a_rung_is_a_step_of_the_plan() -> None:
    assert [rung_step(share, 1000) for share in (1e-6, 0.1, 0.4, 1.0)] == [20, 100, 400, 1000]
    assert [rung_step(share, 41) for share in (0.1, 0.4, 0.6)] == [20, 20, 25]
    assert [rung_step(share, 9) for share in (0.1, 1 / 3, 0.5, 1.0)] == [4, 4, 5, 9]
    assert [rung_step(share, 1) for share in (0.1, 1.0)] == [1, 1]
