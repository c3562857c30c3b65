"""Trainings that are killed and go on, for the tests of resuming."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import rows

from nanolm.runs.run import BEST, LAST
from nanolm.runs.weights import read_weights
from nanolm.training import loop

DROPOUT = {"dropout": 0.2}


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
