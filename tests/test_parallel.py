"""torchrun: two processes train as one does, stop when asked, and hand their run on to any number of processes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_resume import Killed, interrupt
from tiny_run import rows, write_documents

from nanolm.runs.run import Run
from nanolm.training.config import train_config
from nanolm.training.train import train

ROOT = Path(__file__).resolve().parent.parent
STEPS = 20
TINY = (
    "model=tiny model.dims=16 model.heads=2 model.nblocks=2 model.dropout=0 tokenizer.minfreq=2 data=files epochs=1000"
)
TINY += " data.val=0.15 data.test=0.15 batch_size=6 log_every=1 compile=off precision=fp32 samples=0 tracking=disabled"


@contextmanager
def torchrun(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """train.py in two processes; they are gone at the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    pipe, environment = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stderr=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.terminate()  # torchrun hands it on to the others
        process.communicate(timeout=100)


def losses(run: Path) -> np.ndarray:
    """The loss of each step so far."""
    return np.array([float(row["train_loss"]) for row in rows(run)])


def stop_after(process: subprocess.Popen[str], outputs: Path, steps: int) -> tuple[Path, str]:
    """Sends SIGTERM once the run under `outputs` has had `steps` steps; its folder, and what was printed."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        metrics = list(outputs.glob("2*/metrics.csv"))
        if metrics and len(metrics[0].read_text().splitlines()) > steps + 1:
            process.terminate()
            return metrics[0].parent, process.communicate(timeout=100)[0]
        time.sleep(0.05)
    raise AssertionError(process.communicate(timeout=1))


@pytest.mark.slow
def test_two_processes_train_as_one_and_hand_on_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, outputs = write_documents(tmp_path / "text.txt", 50), tmp_path / "out"
    with torchrun(*TINY.split(), f"data.path={text}", f"outputs={outputs}") as process:
        run, printed = stop_after(process, outputs, STEPS)
    assert printed.count("2 processes") == printed.count("all saved; go on") == 1  # one speaks
    assert Run.open(run).status()["state"] == "interrupted"
    two, config = losses(run), train_config(Run.open(run).config)
    assert Run.open(run).status()["documents"]["train"] % config.batch_size == 1  # then the second has nothing to do

    def alone(resume: Path | None, steps: int) -> np.ndarray:
        interrupt(monkeypatch, at=steps + 1)
        with pytest.raises(Killed):
            train(replace(config, resume=str(resume) if resume else None), folder=tmp_path / "one")
        return losses(resume or tmp_path / "one")

    np.testing.assert_allclose(two[:STEPS], alone(None, STEPS), rtol=1e-5)
    before, copy = len(two), Path(shutil.copytree(run, tmp_path / "copy"))
    with torchrun(f"resume={run}", f"outputs={outputs}") as process:
        stop_after(process, outputs, before + STEPS)
    np.testing.assert_allclose(losses(run)[: before + STEPS], alone(copy, STEPS), rtol=1e-5)
