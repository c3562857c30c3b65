"""A run that was interrupted, anywhere, ends as one that was not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import posix_only
from tiny_run import rows, tiny_config, write_documents

from nanolm import hardware
from nanolm.errors import ConfigError, NanolmError, RunError
from nanolm.runs.run import BEST, LAST, PREVIOUS, Run
from nanolm.runs.weights import read_weights
from nanolm.tracking.base import Tracker
from nanolm.training import loop, plan, report
from nanolm.training.config import TrainConfig
from nanolm.training.train import train

DROPOUT = {"dropout": 0.2}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these trainings; test_training.py draws."""
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program's own runs after it but `finally`."""


def interrupt(
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    by: type[BaseException] | signal.Signals = Killed,
    where: str = "take_step",
) -> None:
    """Makes the call number `at` (from 1) of a function of the loop raise, or get a signal."""
    original: Callable[..., Any] = getattr(loop, where)
    calls = iter(range(1, 10**6))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            monkeypatch.setattr(loop, where, original)
            if not isinstance(by, signal.Signals):
                raise by
            signal.raise_signal(by)
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, where, call)


def assert_same(run: Path, other: Path) -> None:
    for name in (BEST, LAST):
        (tensors, note), (others, other_note) = read_weights(run / name), read_weights(other / name)
        assert tensors.keys() == others.keys()
        assert all(tensors[key].equal(others[key]) for key in tensors), name
        if name == LAST:
            assert note["optimizer"] == other_note["optimizer"]
    assert rows(run) == rows(other)
    assert (run / "test_bits.csv").read_bytes() == (other / "test_bits.csv").read_bytes()


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
    (tmp_path / "run" / ".best.safetensors.1-1.part").touch()
    told: list[dict[str, float]] = []
    monkeypatch.setattr(Tracker, "log", lambda self, row: told.append(dict(row)))
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert len(told) > 10
    for row, known in zip(rows(tmp_path / "run"), told, strict=True):
        assert {key: float(value) for key, value in row.items() if value} == {
            key: known[key] for key in row if row[key]
        }
    assert not list((tmp_path / "run").glob(".*.part")), "what the kill left half written is gone"


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
    config = tiny_config(tmp_path, model=DROPOUT, minutes=0.005, checkpoint_seconds=0, epochs=1)
    measure = plan.measured_steps
    monkeypatch.setattr(plan, "measured_steps", lambda *given: 3 + measure(*given))  # however slow the machine is
    interrupt(monkeypatch, at=2)
    with pytest.raises(Killed):
        train(config, folder=tmp_path / "out" / "run")
    steps = Run.open(tmp_path / "out" / "run").manifest["plan"]["steps"]
    train(tiny_config(tmp_path, resume=str(tmp_path / "out" / "run")))
    run = Run.open(tmp_path / "out" / "run")
    assert run.manifest["plan"]["steps"] == steps == run.status()["step"]


def test_best_weights_without_a_checkpoint_are_not_written_over(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")
    (tmp_path / "run" / LAST).unlink()
    best = (tmp_path / "run" / BEST).read_bytes()
    with pytest.raises(RunError, match=r"last\.safetensors: missing, .* init="):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run"), epochs=2), ["epochs=2"])
    assert (tmp_path / "run" / BEST).read_bytes() == best


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path, model=DROPOUT, checkpoint_seconds=0)
    whole, broken = tmp_path / "out" / "whole", tmp_path / "out" / "broken"
    train(config, folder=whole)
    interrupt(monkeypatch, at=13)
    with pytest.raises(Killed):
        train(config, folder=broken)
    data = bytearray((broken / LAST).read_bytes())
    data[-100] ^= 1
    (broken / LAST).write_bytes(data)
    train(tiny_config(tmp_path, resume=str(broken)))
    assert f"{LAST}: damaged" in capsys.readouterr().err
    assert_same(whole, broken)


def test_two_damaged_checkpoints_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=13)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, checkpoint_seconds=0), folder=tmp_path / "run")
    (tmp_path / "run" / LAST).write_bytes(b"")
    (tmp_path / "run" / PREVIOUS).write_bytes(b"\0" * 1000)
    with pytest.raises(NanolmError, match="no checkpoint can be read"):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run")))


def test_lost_best_weights_are_sought_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, at=13)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, checkpoint_seconds=0), folder=tmp_path / "run")
    (tmp_path / "run" / BEST).unlink()
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert "sought anew" in capsys.readouterr().err
    assert read_weights(tmp_path / "run" / BEST)[1]["step"] > 12


def test_more_epochs_go_on_from_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train(tiny_config(tmp_path, epochs=1), folder=folder)
    first = Run.open(folder).status()["step"]
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    budgets: list[dict[str, Any]] = [{}, {"epochs": 1}]
    for how in budgets:
        value = train(tiny_config(tmp_path, resume=str(folder), **how), [f"{key}=1" for key in how])
        assert value == Run.open(folder).status()["val_bpb"]
        first_line, second_line = capsys.readouterr().out.splitlines()
        assert first_line.startswith(f"{folder}: is complete, {value:.4f} bits per byte")
        assert second_line.endswith(f"train.py resume={folder} epochs=2")
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}, "nothing is done"
    with pytest.raises(NanolmError, match="give a larger budget"):
        train(tiny_config(tmp_path, resume=str(folder), epochs=0.5), ["epochs=0.5"])
    train(tiny_config(tmp_path, resume=str(folder), epochs=2), ["epochs=2"])
    run = Run.open(folder)
    assert run.status()["step"] == 2 * first
    assert run.config["epochs"] == 2
    assert [int(row["step"]) for row in rows(folder)] == sorted({int(row["step"]) for row in rows(folder)})


@pytest.mark.parametrize("override", ["model.dims=32", "+lr=1", "batch_size=2", "data.limit=3", "++optim.lr=0.1"])
def test_a_resumed_run_keeps_its_own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str) -> None:
    interrupt(monkeypatch, at=5)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    key = override.lstrip("+").partition("=")[0]
    with pytest.raises(NanolmError, match=rf"^{key}: a resumed run keeps its own"):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run")), [override])


def test_two_processes_cannot_train_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=5)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    with Run.open(tmp_path / "run").hold(), pytest.raises(NanolmError, match="another process"):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run")))


def test_the_text_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=5)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    moved = (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    how: dict[str, Any] = {"resume": str(tmp_path / "run"), "data": {"path": str(moved)}}
    other = write_documents(tmp_path / "other.txt", seed=3)
    with pytest.raises(NanolmError, match=r"its documents .* have changed since; give data\.path="):
        train(tiny_config(tmp_path, **how | {"data": {"path": str(other)}}), [f"data.path={other}"])
    train(tiny_config(tmp_path, **how), ["data=files", f"data.path={moved}"])
    run = Run.open(tmp_path / "run")
    assert run.finished()
    assert run.corpus(tmp_path / "out" / "cache").counts["kept"] > 0  # later verbs find it there
    with pytest.raises(ConfigError, match=r"^data\.val: a resumed run keeps its own"):
        train(tiny_config(tmp_path, **how, epochs=9), ["epochs=9", "data.val=0.2"])


def test_another_precision_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=9)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, checkpoint_seconds=0), folder=tmp_path / "run")
    first = Run.open(tmp_path / "run").status()["precision"]
    other = {"fp32": "bf16", "bf16": "fp32"}[first]
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: other == "bf16")
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert Run.open(tmp_path / "run").status()["precision"] == f"{first}, then {other}"


def test_changed_documents_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, at=5)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    with open(tmp_path / "text.txt", "a") as file:
        file.write("one more plot\n")
    with pytest.raises(NanolmError, match="its documents or their split have changed"):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run")))


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_run import tiny_config
from nanolm.training.train import train
folder = Path({folder!r})
train(tiny_config(folder, epochs=4000, log_every=1, model={{"dropout": 0.2}}), folder=folder / "out" / "run")
"""


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_save_and_say_how_to_go_on(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    run = tmp_path / "out" / "run"
    while process.poll() is None and not ((run / "metrics.csv").exists() and len(rows(run)) > 3):
        time.sleep(0.05)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in output
    assert f"python train.py resume={run}" in output
    assert Run.open(run).status()["state"] == "interrupted"
    assert read_weights(run / LAST)[1]["progress"]["step"] == Run.open(run).status()["step"]
