"""Training: what it learns, writes and prints, and how it ends."""

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import rows, tiny_config

from nanolm.config import plain
from nanolm.errors import NanolmError
from nanolm.optim.base import lr_factor
from nanolm.runs.find import find_run
from nanolm.runs.run import BEST, LAST, Run
from nanolm.runs.weights import read_weights
from nanolm.training import loop, report, step
from nanolm.training.config import TrainConfig, train_config
from nanolm.training.setup import Setup
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")

draw_curves = report.draw_curves


def test_it_learns_and_leaves_a_whole_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "draw_curves", draw_curves)
    value = train(tiny_config(tmp_path, samples=2, prompts=["", "ada finds"], run_name="a name/of mine"))
    run = Run.open(find_run("latest", tmp_path / "out"))
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        *("config.json", "tokenizer.json", "speller.json", "environment.json", "manifest.json", "status.json", ".lock"),
        *("best.safetensors", "last.safetensors", "metrics.csv", "samples.txt", "test_bits.csv", "val_bits.csv"),
        *("loss.png", "perplexity.png", "bits_per_byte.png"),
    }
    assert run.folder.name.endswith("-tiny-word-a-name-of-mine")
    losses = [float(row["train_loss"]) for row in rows(run.folder)]
    assert losses[-1] < losses[0] - 0.5
    status = run.status()
    assert status["state"] == "finished"
    assert status["val_bpb"] == value
    bits = np.loadtxt(run.folder / "test_bits.csv", delimiter=",", skiprows=1)
    assert bits[:, 1].sum() / bits[:, 2].sum() == pytest.approx(status["test_bpb"])
    bits = np.loadtxt(run.folder / "val_bits.csv", delimiter=",", skiprows=1)
    assert bits[:, 1].sum() / bits[:, 2].sum() == pytest.approx(value)
    assert (run.folder / "samples.txt").read_text().count("prompt: ada finds") == 2
    for name in run.manifest["files"]:
        run.file(name)
    output = capsys.readouterr().out
    for word in ("vocabulary", "parameters", "documents", "bits per byte", "python generate.py run=", "epochs=6"):
        assert word in output


def test_the_commands_that_it_prints_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "it's a run"
    train(tiny_config(tmp_path, epochs=1), folder=run)
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("  python ")]
    words = [f"run={run}", f"run={run}", f"resume={run}"]
    assert [line[:3] for line in printed] == [
        ["python", f"{verb}.py", word] for verb, word in zip(("generate", "evaluate", "train"), words, strict=True)
    ]


def test_the_same_command_twice_gives_the_same_numbers(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, model={"dropout": 0.2}, epochs=1)
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(config, folder=first) == train(config, folder=second)
    assert rows(first) == rows(second)
    assert (first / BEST).read_bytes() == (second / BEST).read_bytes()
    assert train(replace(config, seed=2), folder=tmp_path / "third") != Run.open(first).status()["val_bpb"]


def test_metrics_hold_the_schedule_and_the_evaluations(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, optim={"schedule": "cosine", "warmup": 3}, eval_every=5, log_every=1)
    train(config, folder=tmp_path / "run")
    table = rows(tmp_path / "run")
    steps = len(table)
    assert [int(row["step"]) for row in table] == list(range(1, steps + 1))
    assert [int(row["step"]) for row in table if row["val_bpb"]] == sorted({*range(5, steps + 1, 5), steps})
    per_epoch = steps // 3
    for index, row in enumerate(table):
        assert float(row["lr"]) == 1e-2 * lr_factor(config.optim, index, steps, per_epoch)
    best = min(float(row["val_bpb"]) for row in table if row["val_bpb"])
    assert read_weights(tmp_path / "run" / BEST)[1]["val_bpb"] == best


@pytest.mark.parametrize("lr", [1e30, 1e15])
def test_a_loss_that_explodes_ends_the_run_and_names_the_step(tmp_path: Path, lr: float) -> None:
    config = tiny_config(tmp_path, optim={"name": "adam", "lr": lr, "schedule": "constant", "warmup": 0})
    with pytest.raises(NanolmError, match=r"(loss|gradient) .* step \d+ .*optim\.lr=.*gradient norm"):
        train(config, folder=tmp_path / "run")
    status = Run.open(tmp_path / "run").status()
    assert status["state"] == "failed"
    assert "optim.lr" in status["error"]
    assert "\n" not in status["error"]


def test_the_last_good_state_outlives_an_explosion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = step.gradient, iter(range(1, 1000))

    def poison(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nats, norm = original(*args)
        return nats, norm * (math.nan if next(calls) == 10 else 1)

    monkeypatch.setattr(step, "gradient", poison)
    with pytest.raises(NanolmError, match="step 10"):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    assert read_weights(tmp_path / "run" / LAST)[1]["progress"]["step"] == 9
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert Run.open(tmp_path / "run").finished()


def test_the_average_of_the_weights_is_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.Tensor] = []

    def noted(setup: Setup, *args: Any) -> None:
        step.take_step(setup, *args)
        taken.append(setup.model.state_dict()["embedding.weight"].double())

    monkeypatch.setattr(loop, "take_step", noted)
    steady = {"schedule": "constant", "warmup": 0}  # so that the weights still move when they are the best
    config = tiny_config(tmp_path, optim=steady, ema=0.7, eval_every=10, epochs=4)
    train(config, folder=tmp_path / "run")
    best = read_weights(tmp_path / "run" / BEST)
    average = taken[0]
    for weights in taken[1 : int(best[1]["step"])]:
        average = 0.7 * average + 0.3 * weights
    assert torch.allclose(best[0]["embedding.weight"].double(), average, atol=1e-6)
    assert not torch.allclose(average, taken[int(best[1]["step"]) - 1], atol=1e-3)
    run = Run.open(tmp_path / "run")
    assert torch.equal(run.trained().state_dict()["embedding.weight"], best[0]["embedding.weight"])


def test_it_stops_early(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, optim={"lr": 1e-12}, epochs=50, patience=2, eval_every=2)
    train(config, folder=tmp_path / "run")
    status = Run.open(tmp_path / "run").status()
    assert status["state"] == "finished"
    assert status["step"] < 50 * 7


def test_without_a_test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny_config(tmp_path, data={"split": "tail"}, epochs=1), folder=tmp_path / "run")
    assert "test_bpb" not in Run.open(tmp_path / "run").status()
    assert not (tmp_path / "run" / "test_bits.csv").exists()


def test_a_config_survives_json(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tags=["a"], minutes=2.0, run_name="${oc.env:HOME}")
    again: TrainConfig = train_config(json.loads(json.dumps(plain(config))))
    assert again == config
