"""Sweeps on launchers of others': submitit's tasks as the ranks of one run, halving on joblib and on submitit."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import linux_only
from sweeps import command, statuses, sweep, write_text

RANKS = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def task_of_submitit(rank: int) -> int:
    """The process of submitit's that started a rank."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables, words = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
        except OSError:
            continue
        if f"SUBMITIT_LOCAL_GLOBALID={rank}\0".encode() in variables and b"submitit.core._submit" in words:
            return int(place.name)
    raise AssertionError("no such task")


@linux_only
@pytest.mark.slow
def test_the_tasks_of_submitit_train_one_run_and_end_with_a_lost_one(text: Path) -> None:
    pytest.importorskip("submitit")
    words = ["seed=1", "batch_size=6", "checkpoint_seconds=0", "model.dropout=0", "precision=fp32"]
    words += ["optim.schedule=constant", "optim.warmup=0"]
    words += ["model.spelling=0", "optim.row_beta2=null"]  # without warm-up these make much of what is rounding
    folder, pipe = text.parent / "outputs/sweeps/s", subprocess.PIPE
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    leader = subprocess.Popen(
        command(text, *words, *RANKS, "epochs=1000"), cwd=text.parent, env=environment, stdout=pipe, stderr=pipe
    )
    try:
        end, found = time.monotonic() + 120, list[Path]()
        while not found and time.monotonic() < end and leader.poll() is None:
            found = [file for file in folder.glob("*/metrics.csv") if file.read_text().count("\n") > 20]
            time.sleep(0.1)
        os.kill(task_of_submitit(rank=1), signal.SIGKILL)  # its training sees it, saves and stops: so do all
        assert leader.wait(60) == 1
    finally:
        leader.terminate()
        leader.communicate(timeout=100)
    assert [status["state"] for status in statuses(text).values()] == ["interrupted"]
    outputs = sorted(folder.glob(".submitit/*/*_log.out"))
    assert [file.read_text().count("2 processes") for file in outputs] == [1, 0]
    alone = sweep(text, *words, "epochs=1", f"hydra.sweep.dir={folder.with_name('alone')}")
    assert alone.returncode == 0, alone.stderr
    files = [*found, *folder.parent.glob("alone/*/metrics.csv")]
    losses = [[float(row["train_loss"]) for row in list(csv.DictReader(file.open()))[:10]] for file in files]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("no_wandb_account")
@pytest.mark.parametrize("launcher", [["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], RANKS])
def test_a_halving_on_launchers_that_take_a_list_tells_wandb_where_each_job_stopped(
    text: Path, launcher: list[str]
) -> None:
    if launcher == RANKS:
        pytest.importorskip("submitit")
    words = ["epochs=2", "optim.lr=0.001,0.003,0.01", "precision=fp32"]
    words += ["hydra/sweeper=halving", "hydra.sweeper.rungs=[0.3]"]
    done = sweep(text, *words, "hydra.sweeper.extra=0", "tracking=offline", *launcher)
    assert done.returncode == 0, done.stderr
    assert "rung 2 of 2, to 100% of the plan" in done.stdout
    assert "2 done, 1 stopped" in done.stdout
    found: dict[str, list[Any]] = {}
    for folder in sorted((text.parent / "outputs/wandb").glob("offline-run-*"), key=os.path.getmtime):
        records = offline_records(folder)
        about = next(record["run"] for record in records if record["type"] == "run")
        summary = {k: v for r in records if r["type"] == "summary" for k, v in r["summary"]["update"].items()}
        told = (summary["state"], summary.get("rung"), about.get("tags", []))
        found.setdefault(about["display_name"], []).append(told)
    at_rung = ("stopped", 0.3, ["rung 30%"])
    goes_on = [at_rung, ("finished", None, [])]
    assert sorted(found.values(), key=len) == [[at_rung], goes_on, goes_on]
    assert {status["state"] for status in statuses(text).values()} == {"stopped", "finished"}


def offline_records(folder: Path) -> list[dict[str, Any]]:
    """Everything that W&B keeps of an offline run, as its own reader tells it."""
    reader = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(reader, check=True, capture_output=True, text=True, timeout=100).stdout.splitlines()
    return [json.loads(line) for line in lines]
