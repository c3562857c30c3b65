"""A run that was killed anywhere goes on bit for bit."""

import signal
from pathlib import Path
from typing import Any

import pytest
from interrupted import DROPOUT, Killed, assert_same, interrupt
from tiny_run import rows, tiny_config

from nanolm.errors import RunError
from nanolm.files import write_json
from nanolm.runs.run import BEST, LAST, Run
from nanolm.tracking.base import Tracker
from nanolm.training import plan
from nanolm.training.config import TrainConfig
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")


def run_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TrainConfig, **how: Any) -> tuple[Path, Path]:
    """An uninterrupted run, and one that was killed as `how` says and then resumed."""
    whole, broken = tmp_path / "out" / "whole", tmp_path / "out" / "broken"
    train(config, folder=whole)
    interrupt(monkeypatch, **how)
    with pytest.raises((Killed, SystemExit)):
        train(config, folder=broken)
    value = train(tiny_config(tmp_path, resume=str(broken)))
    assert value == Run.open(whole).status()["val_bpb"]
    assert Run.open(broken).finished()
    return whole, broken


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_a_run_killed_within_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, optim={"name": optimizer}, checkpoint_seconds=0)
    assert_same(*run_both(tmp_path, monkeypatch, config, at=12))


def test_tables_of_pieces_and_ngrams_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, model=DROPOUT | {"spelling": 100, "ngrams": 3, "ngram_rows": 50})
    assert_same(*run_both(tmp_path, monkeypatch, config, at=12))


@pytest.mark.parametrize(
    ("name", "key", "was"),
    [("muon", "row_beta2", None), ("muon", "depth_scaling", False), ("adamw", "depth_scaling", False)],
)
def test_a_run_from_before_a_knob_was_there_goes_on_without(tmp_path: Path, name: str, key: str, was: Any) -> None:
    """These came after format 1, and change what the optimizer remembers, or its order."""
    whole, older = tmp_path / "out" / "whole", tmp_path / "out" / "older"
    for folder in (whole, older):
        train(tiny_config(tmp_path, optim={"name": name, key: was}, epochs=2), folder=folder)
    run = Run.open(older)
    config = run.config
    del config["optim"][key]
    write_json(older / "config.json", config)
    run.list_files("config.json")
    values = [train(tiny_config(tmp_path, resume=str(folder), epochs=3), ["epochs=3"]) for folder in (whole, older)]
    assert values[0] == values[1]


@pytest.mark.parametrize("at", [1, 7, 9, 16])
def test_wherever_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, accumulate=2, eval_every=3, log_every=4, minutes=None, epochs=4)
    assert_same(*run_both(tmp_path, monkeypatch, config, at=at))


def test_an_average_of_the_weights_is_kept_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, ema=0.8, checkpoint_seconds=0)
    assert_same(*run_both(tmp_path, monkeypatch, config, at=12))


@pytest.mark.parametrize("where", ["score_split", "write_weights", "save_checkpoint", "keep_best"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_whatever_it_was_doing_when_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, at: int
) -> None:
    config = tiny_config(tmp_path, model=DROPOUT)
    assert_same(*run_both(tmp_path, monkeypatch, config, at=at, where=where))


def test_wandb_is_told_again_what_a_kill_may_have_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=13)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, checkpoint_seconds=0), folder=tmp_path / "run")
    halves = [tmp_path / "run" / name for name in (".best.safetensors.1-1.part", ".tmpA1b2C3")]
    for half in halves:
        half.touch()
    told: list[dict[str, float]] = []
    monkeypatch.setattr(Tracker, "log", lambda self, row: told.append(dict(row)))
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert len(told) > 10
    for row, known in zip(rows(tmp_path / "run"), told, strict=True):
        assert {key: float(value) for key, value in row.items() if value} == {
            key: known[key] for key in row if row[key]
        }
    assert not any(half.exists() for half in halves), "what the kill left half written is gone"


def test_without_a_checkpoint_it_says_that_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, at=3)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_text("step,tokens\n1,x2\n")
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert "there is no checkpoint, so it starts at its beginning" in capsys.readouterr().err
    assert Run.open(tmp_path / "run").finished()


def test_a_signal_in_an_evaluation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, log_every=3)
    assert_same(*run_both(tmp_path, monkeypatch, config, at=2, by=signal.SIGTERM, where="score_split"))


def test_minutes_are_counted_into_steps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, minutes=0.02, checkpoint_seconds=0, epochs=1)
    measure = plan.measured_steps
    monkeypatch.setattr(plan, "measured_steps", lambda *given: 3 + measure(*given))  # however slow the machine is
    interrupt(monkeypatch, at=2)
    with pytest.raises(Killed):
        train(config, folder=tmp_path / "out" / "run")
    steps = Run.open(tmp_path / "out" / "run").manifest["plan"]["steps"]
    train(tiny_config(tmp_path, resume=str(tmp_path / "out" / "run")))
    run = Run.open(tmp_path / "out" / "run")
    assert run.manifest["plan"]["steps"] == steps
    assert run.status()["step"] == plan.steps_at(run.manifest["plan"], run.status()["step"])


def test_best_weights_without_a_checkpoint_are_not_written_over(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")
    (tmp_path / "run" / LAST).unlink()
    best = (tmp_path / "run" / BEST).read_bytes()
    with pytest.raises(RunError, match=r"last\.safetensors: missing, .* init="):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run"), epochs=2), ["epochs=2"])
    assert (tmp_path / "run" / BEST).read_bytes() == best
