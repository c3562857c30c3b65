"""A budget in minutes while the machine's speed changes: on a clock of the tests' own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_run import rows, tiny_config

from nanolm.errors import RunError
from nanolm.files import read_json, write_json
from nanolm.runs.run import Run
from nanolm.training import loop, plan
from nanolm.training.pace import Pace
from nanolm.training.progress import Progress
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")
Seconds = Callable[[int], float]  # what so many steps took


def slower(step: int) -> float:
    """A second a step, from the tenth on three."""
    return step + 2 * max(0, step - 10)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Seconds], None]:
    """Sets what steps take; 20 are planned for the 20 seconds of the budget."""

    def wound(seconds: Seconds) -> None:
        @contextmanager
        def timed(progress: Progress, training: bool = False) -> Iterator[None]:
            yield
            progress.training = seconds(progress.step)

        monkeypatch.setattr(loop, "timed", timed)

    monkeypatch.setattr(plan, "measured_steps", lambda setup, minutes: round(60 * minutes))
    return wound


def budget(folder: Path, **fields: Any) -> Any:
    return tiny_config(folder, minutes=20 / 60, precision="fp32", **fields)


def test_a_machine_that_keeps_its_speed_keeps_the_plan(tmp_path: Path, clock: Callable[[Seconds], None]) -> None:
    clock(lambda step: 1.05 * step)
    train(budget(tmp_path), folder=tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert (run.manifest["plan"]["steps"], run.manifest["plan"]["changes"], run.status()["step"]) == (20, [], 20)


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [
        (slower, [[12, 13]]),
        (lambda step: 2.0 * step, [[1, 10]]),
        (lambda step: 0.5 * step, [[4, 40]]),
        (lambda step: 0.1 * step, [[10, 200]]),
    ],
)
def test_a_machine_that_grows_slower_or_faster_changes_it(
    tmp_path: Path,
    clock: Callable[[Seconds], None],
    seconds: Seconds,
    changes: list[list[int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock(seconds)
    train(budget(tmp_path), folder=tmp_path / "run")
    run, [[_, steps]] = Run.open(tmp_path / "run"), changes
    assert run.manifest["plan"]["changes"] == changes
    assert run.status()["step"] == run.status()["steps"] == steps
    assert rows(tmp_path / "run")[-1]["step"] == str(steps)
    assert rows(tmp_path / "run")[-1]["val_bpb"]
    assert 16 <= seconds(steps) <= 24  # within 20% of the budget
    word = "slower" if steps < 20 else "faster"
    assert (
        f"the machine is {word} than before: {steps} steps instead of 20 keep to the budget" in capsys.readouterr().out
    )


def test_a_run_that_goes_on_from_before_a_change_takes_the_same_steps(
    tmp_path: Path, clock: Callable[[Seconds], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(slower)
    train(budget(tmp_path), folder=tmp_path / "whole")
    train(budget(tmp_path), folder=tmp_path / "run", until=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "keep", killed_after_12)
        with pytest.raises(RuntimeError, match="killed"):
            train(budget(tmp_path, resume=str(tmp_path / "run")))
    assert Run.open(tmp_path / "run").manifest["plan"]["changes"] == [[12, 13]]
    clock(lambda step: float(step))
    train(budget(tmp_path, resume=str(tmp_path / "run")))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert Run.open(tmp_path / "run").status()["val_bpb"] == Run.open(tmp_path / "whole").status()["val_bpb"]


def killed_after_12(session: loop.Session) -> None:
    if session.progress.step > 12:
        raise RuntimeError("killed")


def test_another_budget_is_planned_anew(tmp_path: Path, clock: Callable[[Seconds], None]) -> None:
    clock(slower)
    train(budget(tmp_path), folder=tmp_path / "run")
    train(tiny_config(tmp_path, minutes=40 / 60, resume=str(tmp_path / "run")), ["minutes=0.6666666666666666"])
    changed = Run.open(tmp_path / "run").manifest["plan"]
    assert (changed["steps"], changed["minutes"]) == (40, 40 / 60)
    assert 32 <= slower(Run.open(tmp_path / "run").status()["step"]) <= 48


def test_changes_that_are_none_are_refused(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run", until=0.5)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    manifest["plan"]["changes"] = [[3]]
    write_json(tmp_path / "run" / "manifest.json", manifest)
    with pytest.raises(RunError, match=r"manifest\.json: plan\.changes=\[\[3\]\]: must be pairs of steps"):
        train(tiny_config(tmp_path, resume=str(tmp_path / "run")))


def test_a_moment_after_a_resume_tells_no_speed() -> None:
    pace = Pace({"steps": 100, "minutes": 1.0, "changes": []}, Progress(step=20, training=14.9))
    assert not pace.due(Progress(step=21, training=16.0))
    assert pace.due(Progress(step=22, training=18.0))
    assert not pace.due(Progress(step=20, training=12.0))
