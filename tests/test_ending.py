"""What ends a run, and what must not: readers that go, closed terminals, full disks and memories."""

import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import interrupt
from tiny_run import tiny_config

from nanolm.errors import RunError
from nanolm.runs.run import Run
from nanolm.sweep.folder import STOP
from nanolm.training import loop, report, stop
from nanolm.training.ending import in_words
from nanolm.training.output import LastingStream, announced, lasting_output
from nanolm.training.stop import Stop
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")


def test_a_reader_that_goes_does_not_touch_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        reader, writer = os.pipe()
        os.close(reader)  # as in `python train.py | head -3`
        monkeypatch.setattr(sys, name, open(writer, "w", buffering=1))  # noqa: SIM115
    streams = sys.stdout, sys.stderr
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")
    assert Run.open(tmp_path / "run").finished()
    assert (sys.stdout, sys.stderr) == streams
    print("and what the program prints at its end is no error either", flush=True)


class Failing:
    """A stream that fails for a while."""

    def __init__(self, number: int) -> None:
        self.number: int | None = number
        self.text = ""

    def write(self, text: str) -> int:
        if self.number is not None:
            raise OSError(self.number, "")
        self.text += text
        return len(text)

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_printing_never_fails(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    stream: Any = Failing(number)
    stream.fileno = lambda: os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        print("lost", flush=True)
        assert isinstance(sys.stdout, LastingStream)
        stream.number = None
        print("the disk has room again")
    assert stream.text == "the disk has room again\n"


@pytest.mark.parametrize("error", [SystemExit(1), OSError(errno.EIO, "I/O error"), ValueError("a word")])
def test_a_finished_run_stays_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(report, "print_results", fail)  # the last print
    with pytest.raises((type(error), RunError)):
        train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")
    status = Run.open(tmp_path / "run").status()  # whose checksum is verified
    assert status["state"] == "finished"
    assert "error" not in status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_saves_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, at=5, by=number)
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with pytest.raises(SystemExit) as end:
            train(tiny_config(tmp_path), folder=tmp_path / "run")
    finally:
        signal.signal(number, before)
    assert end.value.code == 128 + number
    status = Run.open(tmp_path / "run").status()
    assert (status["state"], status["error"], status["step"]) == ("interrupted", f"stopped by {number.name}", 5)
    assert f"stopped by {number.name} after step 5, all saved; go on:" in capsys.readouterr().out
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))
    assert "error" not in Run.open(tmp_path / "run").status()


def test_a_file_in_its_folder_stops_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, step, terminate = threading.Event(), loop.take_step, stop.terminate

    def wish(*args: Any) -> Any:
        (tmp_path / "run" / STOP).touch()
        assert heard.wait(60)  # the first step lasts until then
        return step(*args)

    def hear() -> None:
        terminate()
        heard.set()

    monkeypatch.setattr(loop, "take_step", wish)
    monkeypatch.setattr(stop, "terminate", hear)
    with pytest.raises(SystemExit):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    status = Run.open(tmp_path / "run").status()
    assert (status["state"], status["step"]) == ("interrupted", 1)
    monkeypatch.setattr(loop, "take_step", step)
    train(tiny_config(tmp_path, resume=str(tmp_path / "run")))  # an earlier wish is of no interest
    assert Run.open(tmp_path / "run").finished()


def test_what_nohup_ignores_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt(monkeypatch, at=5, by=signal.SIGHUP)
        train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Run.open(tmp_path / "run").finished()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "no memory left; lower"),
        (MemoryError(), "no memory left; lower batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), "no memory left; lower batch_size"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; check free space"),
        (ZeroDivisionError("of a plugin"), "ZeroDivisionError: of a plugin"),
        (SystemExit(3), "the program was ended with status 3"),
    ],
)
def test_what_ended_it_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "take_step", fail)
    with pytest.raises((type(error), RunError)):
        train(tiny_config(tmp_path), folder=tmp_path / "run")
    status = Run.open(tmp_path / "run").status()
    assert status["state"] == "failed"
    assert line in status["error"]


def test_a_second_ctrl_c_is_called_that() -> None:
    assert "pressed twice" in in_words(KeyboardInterrupt(), Path("run"), Stop())


def test_what_takes_long_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("reading the documents", after=0.01):
        time.sleep(0.2)
    with announced("a moment"):
        pass
    assert capsys.readouterr().out == "reading the documents ...\n"
