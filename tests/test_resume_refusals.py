"""Resuming what is damaged, has moved or has changed; a longer plan; signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import posix_only
from interrupted import DROPOUT, Killed, assert_same, interrupt
from tiny_run import rows, tiny_config, write_documents

from nanolm import hardware
from nanolm.errors import ConfigError, DataError, NanolmError
from nanolm.runs.run import BEST, LAST, PREVIOUS, Run
from nanolm.runs.weights import read_weights
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")


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
    alone = tiny_config(tmp_path, resume=str(tmp_path / "run"))
    moved = (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    with pytest.raises(DataError, match=r"text\.txt: no such file.*; if it has moved, give data\.path=NEW$"):
        train(alone)
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
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, or in the background of a script
signal.signal(signal.SIGINT, signal.default_int_handler)
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
