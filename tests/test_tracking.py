"""Tracking: every option logs the same rows, and none gets in the way of training; TensorBoard."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import tiny_config

from nanolm.config import build, options, plain
from nanolm.errors import ConfigError
from nanolm.runs.run import Run
from nanolm.tracking import base
from nanolm.tracking.base import Logger, RunInfo, Tracker, TrackingConfig, read_tracking
from nanolm.tracking.offline import Offline
from nanolm.tracking.online import Online
from nanolm.training.metrics import COLUMNS
from nanolm.training.resume import resumed
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_wandb_account")


def info(folder: Path, **fields: Any) -> RunInfo:
    return RunInfo("abcd", folder / "run", folder, **fields)


# what every option does


class Recorder(Logger):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.end: list[Any] = []

    def log(self, row: Any) -> None:
        self.rows.append(row)

    def report(self, summary: Any, samples: Any, images: Any) -> None:
        self.end += [summary, samples, images]

    def close(self, status: int) -> None:
        self.end.append(status)


class Recording(TrackingConfig):
    """An option that keeps what it is given in memory."""

    def __init__(self, recorder: Recorder) -> None:
        self.name, self.recorder = "recording", recorder

    def logger(self, run: RunInfo) -> Logger:
        return self.recorder


def test_a_logger_gets_rows_then_the_report_then_the_end(tmp_path: Path) -> None:
    recorder = Recorder()
    tracker = Tracker(Recording(recorder), info(tmp_path))
    tracker.log({"step": 1})
    tracker.log({"step": 2})
    tracker.report({"test_bpb": 1.0}, [("a", "b")], {})
    tracker.close(3)
    assert recorder.rows == [{"step": 1}, {"step": 2}]
    assert recorder.end == [{"test_bpb": 1.0}, [("a", "b")], {}, 3]


def test_a_logger_that_fails_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Recorder):
        def log(self, row: Any) -> None:
            raise OSError("disk\nfull")

    recorder = Failing()
    tracker = Tracker(Recording(recorder), info(tmp_path))
    for step in range(3):
        tracker.log({"step": step})
    tracker.close()
    assert capsys.readouterr().err == "tracking: recording stopped (OSError: disk full); metrics.csv has every figure\n"
    assert recorder.end == [1], "it is closed as failed"


def test_a_logger_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on = threading.Event()

    class Hanging(Recorder):
        def log(self, row: Any) -> None:
            go_on.wait(60)

    monkeypatch.setattr(base, "PATIENCE", 0.05)
    tracker = Tracker(Recording(Hanging()), info(tmp_path))
    tracker.log({"step": 1})
    tracker.close()
    assert "recording has not finished" in capsys.readouterr().err
    go_on.set()
    tracker.thread.join(60)


def test_disabled_imports_neither_wandb_nor_tensorboard(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from nanolm.config import build\n"
        "from nanolm.tracking.base import RunInfo, Tracker\n"
        "config, place = build('tracking', {'name': 'disabled'}), pathlib.Path('x')\n"
        "tracker = Tracker(config, RunInfo('a', place, place))\n"
        "tracker.log({'step': 1}); tracker.close()\n"
        "assert not {'wandb', 'tensorboard', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_early_runs_called_the_option_a_mode() -> None:
    old = {"project": "p", "entity": None}
    assert read_tracking(old | {"mode": "online"}) == Online(project="p")
    assert read_tracking(old | {"mode": "disabled"}).name == "disabled"
    with pytest.raises(ConfigError, match=r"tracking\.name=on: must be one of disabled, offline, online, tensorboard"):
        read_tracking(old | {"mode": "on"})


def test_a_resumed_run_keeps_its_tracking_but_uploads_only_when_asked(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1, tracking=Online(project="p", entity="e"))
    made = Run.create(tmp_path / "out" / "run", plain(config), {}, {})

    def tracking(typed: TrackingConfig, *words: str) -> TrackingConfig:
        asked = tiny_config(tmp_path, resume=str(made.folder), tracking=typed)
        return resumed(asked, ["epochs=9", *words])[1].tracking

    assert tracking(Offline()) == Offline(), "nor does it choose the project that `wandb sync` would upload to"
    assert tracking(Online(project="q"), "tracking=online", "tracking.project=q") == Online(project="q")
    assert tracking(Online()) == Online(project="p", entity="e"), "WANDB_MODE=online"
    assert tracking(Offline(project="q"), "tracking.project=q") == Offline(project="q")
    assert tracking(build("tracking", {"name": "tensorboard"}), "tracking=tensorboard").name == "tensorboard"


def test_tracking_words_of_another_option_are_refused_on_a_resume(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1, tracking=build("tracking", {"name": "tensorboard"}))
    made = Run.create(tmp_path / "out" / "run", plain(config), {}, {})
    asked = tiny_config(tmp_path, resume=str(made.folder), tracking=Offline(project="q"))
    with pytest.raises(
        ConfigError, match=r"tracking\.project: the run has tracking=tensorboard; give tracking=offline"
    ):
        resumed(asked, ["epochs=9", "tracking.project=q"])


# TensorBoard


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def test_tensorboard_has_the_rows_of_metrics_csv_once_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    option = build("tracking", {"name": "tensorboard"})
    config = tiny_config(tmp_path, epochs=1, samples=1, tracking=option)
    train(config, folder=tmp_path / "out" / "run")
    train(tiny_config(tmp_path, epochs=2, resume=str(tmp_path / "out" / "run")), ["epochs=2"])
    run = Run.open(tmp_path / "out" / "run")
    found, table = events(run.folder), np.genfromtxt(run.folder / "metrics.csv", delimiter=",", names=True)
    assert len(list(run.folder.glob("events.out.tfevents.*"))) == 2
    for column in COLUMNS[1:]:
        kept = np.isfinite(table[column])
        steps, values = zip(*((row.step, row.value) for row in found.Scalars(column)), strict=True)
        np.testing.assert_array_equal(steps, table["step"][kept])
        np.testing.assert_allclose(values, table[column][kept], rtol=1e-6)
    assert found.Scalars("test_bpb")[-1].value == pytest.approx(run.status()["test_bpb"])
    assert {"loss", "bits_per_byte"} <= set(found.Tags()["images"])
    (start,) = (found.SummaryMetadata(tag).plugin_data.content for tag in ["_hparams_/session_start_info"])
    assert b"model.dims" in start
    assert b"optim.lr" in start


def test_tensorboard_that_is_not_installed_is_said_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard: pip install -e '\.\[tensorboard\]'"):
        build("tracking", {"name": "tensorboard"}).check([])


def test_the_options() -> None:
    assert set(options("tracking")) == {"disabled", "offline", "online", "tensorboard"}
