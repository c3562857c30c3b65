"""Runs of every format that was ever written still load, write the same text, score the same, and go on.

tests/runs/format<N>/ holds one of each: text.txt, the run trained on it, and greedy.json, what it wrote then. A change
that raises run.FORMAT adds a folder and leaves the old ones as they are.
"""

import json
import shutil
from pathlib import Path

import pytest
from tiny_run import tiny_config

import nanolm
from nanolm.cli.evaluate import evaluate
from nanolm.runs.run import FORMAT, Run
from nanolm.training import report
from nanolm.training.train import train

RUNS = Path(__file__).parent / "runs"


@pytest.fixture(params=range(1, FORMAT + 1))
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(RUNS / f"format{request.param}", tmp_path / "old"))
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    return Path("run")


def test_it_writes_the_same_text(old: Path) -> None:
    texts = json.loads(Path("greedy.json").read_text())
    generator = nanolm.load(str(old))
    assert {prompt: generator.generate(prompt, "greedy", max_new_tokens=24) for prompt in texts} == texts
    assert nanolm.load(str(old), which="last").generate("ada", "greedy")


def test_it_scores_the_same_on_its_own_text(old: Path) -> None:
    status = Run.open(old).status()
    for split in ("val", "test"):
        score = evaluate(str(old), None, split, outputs=Path("out"))
        assert score.bpb == pytest.approx(status[f"{split}_bpb"], rel=1e-4)


def test_it_goes_on_and_others_start_from_it(old: Path) -> None:
    before = Run.open(old).status()
    train(tiny_config(Path(), resume=str(old), outputs="out", epochs=8), ["epochs=8"])
    after = Run.open(old).status()
    assert Run.open(old).finished()
    assert after["step"] > before["step"]
    assert after["corpus"] == before["corpus"]
    train(tiny_config(Path(), init=str(old), outputs="out", epochs=1, model={"name": "x"}), folder=Path("out/new"))
    assert Run.open("out/new").finished()
