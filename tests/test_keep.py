"""keep_every: the weights of every n-th step stay, are those of that step, and a kill changes nothing about them."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from test_resume import Killed, interrupt, run_both
from tiny_run import rows, tiny_config

from nanolm.errors import ConfigError, RunError
from nanolm.runs.load import load_for_scoring
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import read_weights
from nanolm.training import loop
from nanolm.training.keep import steps_to_keep
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")


def test_which_steps_stay() -> None:
    assert steps_to_keep(None, 10) == []
    assert steps_to_keep(4, 10) == [0, 4, 8, 10]
    assert steps_to_keep(5, 10) == [0, 5, 10]
    assert steps_to_keep(50, 10) == [0, 10]
    assert steps_to_keep(4, 10, done=4) == [8, 10]


def test_the_weights_of_each_step_stay_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}
    original = loop.keep

    def note(session: loop.Session) -> None:
        seen[session.progress.step] = {k: v.clone() for k, v in session.setup.evaluated_model.state_dict().items()}
        original(session)

    monkeypatch.setattr(loop, "keep", note)
    kept, plain = tmp_path / "out" / "kept", tmp_path / "out" / "plain"
    train(tiny_config(tmp_path, keep_every=9, ema=0.9), folder=kept)
    out = capsys.readouterr().out
    assert "4 checkpoints of " in out
    assert "kept: the weights of 4 steps, step-0 to step-24" in out
    train(tiny_config(tmp_path, ema=0.9), folder=plain)
    run = Run.open(kept)
    assert list(run.kept()) == [0, 9, 18, 24]
    for step, path in run.kept().items():
        tensors, note_of = read_weights(run.file(path.name))
        assert note_of == {"step": step}
        assert all(torch.equal(tensor, seen[step][name]) for name, tensor in tensors.items())
        loaded = load_for_scoring(kept, which=path.stem).model.state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in tensors.items())
    assert rows(kept) == rows(plain)
    assert all(torch.equal(a, b) for a, b in zip(weights(kept, BEST), weights(plain, BEST), strict=True))
    assert not Run.open(plain).kept()


def weights(run: Path, name: str) -> list[torch.Tensor]:
    return [tensor for _, tensor in sorted(read_weights(run / name)[0].items())]


@pytest.mark.parametrize(("where", "at"), [("keep", 1), ("keep", 9), ("keep_weights", 3), ("take_step", 14)])
def test_a_kill_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, at: int) -> None:
    config = tiny_config(tmp_path, keep_every=5, model={"dropout": 0.2})
    whole, broken = run_both(tmp_path, monkeypatch, config, at=at, where=where)
    kept, again = Run.open(whole).kept(), Run.open(broken).kept()
    assert list(kept) == list(again) == [0, 5, 10, 15, 20, 24]
    for path in kept.values():
        assert Run.open(whole).file(path.name).read_bytes() == Run.open(broken).file(path.name).read_bytes()


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    interrupt(monkeypatch, at=14)  # the last checkpoint is that of the evaluation after step 8
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, keep_every=4), folder=folder)
    assert list(Run.open(folder).kept()) == [0, 4, 8, 12]
    interrupt(monkeypatch, at=1)
    with pytest.raises(Killed):
        train(tiny_config(tmp_path, resume=str(folder)))
    assert list(Run.open(folder).kept()) == [0, 4, 8]
    assert {path.name for path in folder.glob("step-*")} == {f"step-{step}.safetensors" for step in (0, 4, 8)}


def test_a_longer_plan_keeps_more(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_config(tmp_path, keep_every=5, epochs=1), folder=folder)
    train(tiny_config(tmp_path, resume=str(folder), epochs=2), overrides=["epochs=2"])
    assert list(Run.open(folder).kept()) == [0, 5, 8, 10, 15, 16]


def test_a_full_disk_is_seen_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 1000))
    with pytest.raises(ConfigError, match=r"keep_every=8: 4 checkpoints need .* raise keep_every"):
        train(tiny_config(tmp_path, keep_every=8), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "run")


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_config(tmp_path, keep_every=5, epochs=1), folder=folder)
    with pytest.raises(ConfigError, match=r"which=step-3: .* there are best, last, step-0, step-5, step-8"):
        Run.open(folder).model("step-3")
    (folder / "step-5.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"step-5\.safetensors: damaged"):
        Run.open(folder).model("step-5")
