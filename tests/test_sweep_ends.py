"""Sweeps that are killed, stopped or fail in part, and go on: subprocesses, each a few seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweeps import ROOT, command, statuses, sweep, write_text

from nanolm.sweep.jobs import Job


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def processes(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def holder(folder: Path) -> int | None:
    """The process that trains in `folder`: it has the lock open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if Path(os.readlink(link)) == folder / ".lock":
                return int(link.parts[2])
        except OSError:
            continue
    return None


def wait_for(condition: Callable[[], object], seconds: float = 120) -> object:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.fixture
def started(text: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    begun: list[subprocess.Popen[bytes]] = []

    def start(*overrides: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        output = open(text.parent / "sweep.log", "wb")  # noqa: SIM115 (the process writes on)
        begun.append(
            subprocess.Popen(
                command(text, *overrides),
                cwd=text.parent,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        for pid in processes(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_failing_job_stops_no_other_and_a_second_launch_runs_only_what_is_not_done(text: Path) -> None:
    first = sweep(text, "epochs=1", "model.heads=2,3")
    assert first.returncode == 1, first.stderr
    assert "1 done, 1 failed" in first.stdout
    found = statuses(text)
    assert found["heads=2"]["state"] == "finished"
    assert found["heads=3"]["error"] == "model.dims=16: must be a multiple of model.heads=3"
    assert "Traceback" in next((text.parent / "outputs/sweeps/s").glob("heads=3-*/traceback.txt")).read_text()
    second = sweep(text, "epochs=1", "model.heads=2,3")
    assert "1 failed, 1 skipped" in second.stdout
    assert statuses(text)["heads=2"] == found["heads=2"]
    away = text.rename(text.with_name("away.txt"))
    assert "is finished and left as it is" in sweep(text, "epochs=1", "model.heads=2,3").stderr
    assert statuses(text)["heads=2"] == found["heads=2"]
    away.rename(text)
    text.write_text(text.read_text() + "\nand one document more that was never there")
    assert "1 done, 1 failed" in sweep(text, "epochs=1", "model.heads=2,3").stdout, "other documents: run again"


@pytest.mark.slow
def test_a_killed_job_is_noted_and_goes_on_with_the_next_launch(
    text: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    leader = started("epochs=15", "seed=1,2", "checkpoint_seconds=0")
    folder = text.parent / "outputs/sweeps/s"
    wait_for(lambda: list(folder.glob("seed=1-*/last.safetensors")))
    job = next(folder.glob("seed=1-*"))
    pid = wait_for(lambda: holder(job))
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: statuses(text).get("seed=2", {}).get("state") == "running")
    assert statuses(text)["seed=1"]["state"] == "interrupted"
    assert "killed by signal 9" in str(statuses(text)["seed=1"]["error"])
    os.killpg(leader.pid, signal.SIGINT)
    assert leader.wait(120) == 130
    assert statuses(text)["seed=2"]["state"] == "interrupted"
    done = sweep(text, "epochs=15", "seed=1,2", "checkpoint_seconds=0")
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout
    rows = (job / "metrics.csv").read_text().splitlines()[1:]
    steps = [int(row.split(",")[0]) for row in rows]
    assert steps == sorted(set(steps)), "every step once"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "stop"),
    [("local", "SIGTERM"), ("local", "SIGKILL"), ("joblib", "SIGKILL"), ("submitit_local", "SIGTERM")],
)
def test_no_process_outlives_a_stopped_parallel_sweep(
    launcher: str, stop: str, text: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    seeds, workers = ("1,2", []) if launcher == "submitit_local" else ("1,2,3", ["hydra.launcher.n_jobs=2"])
    leader = started("epochs=100000", f"seed={seeds}", "compile=off", f"hydra/launcher={launcher}", *workers)
    wait_for(lambda: len([1 for status in statuses(text).values() if status.get("state") == "running"]) == 2)
    os.kill(leader.pid, signal.Signals[stop])
    leader.wait(120)
    wait_for(lambda: not processes(leader.pid), 60)
    assert {status["state"] for status in statuses(text).values()} == {"interrupted"}
    assert not any(holder(folder) for folder in (text.parent / "outputs/sweeps/s").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=local", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"],
    ],
    ids=["local", "joblib", "submitit"],
)
def test_any_launcher_records_its_jobs_and_says_how_far_it_is(launcher: list[str], text: Path) -> None:
    if "submitit" in launcher[0]:
        pytest.importorskip("submitit")
    done = sweep(text, "epochs=1", "model.heads=2,3,5", *launcher)
    assert done.returncode == 1, done.stderr
    assert "1 done, 2 failed" in done.stdout
    assert statuses(text)["heads=3"]["error"] == "model.dims=16: must be a multiple of model.heads=3"
    folders = sorted(path.name for path in (text.parent / "outputs/sweeps/s").glob("heads=*"))
    lines = done.stdout.splitlines()
    assert lines[:2] == ["3 jobs", "  model.heads: 2, 3, 5"]
    assert sorted(line for line in lines if line.endswith(" begins")) == [f"{name} begins" for name in folders]
    ended = [line.partition(": ") for line in lines if " ended: " in line]
    assert sorted(head for head, _, _ in ended) == [f"{number} of 3 ended" for number in (1, 2, 3)]
    assert sorted(tail.split()[0] for _, _, tail in ended) == folders
    assert {tail.split()[1].strip(":,") for _, _, tail in ended} == {"finished", "failed"}


@pytest.mark.slow
def test_a_search_outlives_its_failed_trials_and_goes_on(text: Path) -> None:
    pytest.importorskip("optuna")
    space = ["epochs=choice(1,0)", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"]
    first = sweep(text, *space)
    assert first.returncode == 1, first.stderr
    assert "1 done, 1 failed" in first.stdout  # of three trials two are the same
    best = (text.parent / "outputs/sweeps/s/optimization_results.yaml").read_text()
    assert f"best_value: {statuses(text)['epochs=1']['val_bpb']}" in best
    assert "1 failed, 1 skipped" in sweep(text, *space).stdout
    assert (text.parent / "outputs/sweeps/s/optimization_results.yaml").read_text() == best
    nothing = sweep(text, "hydra/sweeper=optuna")
    assert nothing.stderr.startswith("train.py: hydra/sweeper=optuna: nothing to search")
    assert nothing.stderr.count("\n") == nothing.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [["hydra.launcher.n_jobs=2"], ["hydra/launcher=basic"]])
def test_a_halving_is_killed_at_a_rung_and_goes_on_and_its_winner_is_the_run_that_was_never_stopped(
    text: Path, started: Callable[..., subprocess.Popen[bytes]], how: list[str]
) -> None:
    words = ["epochs=3", "optim.lr=0.003,0.01,0.03", "model.heads=2,3", "precision=fp32", "threads=1"]
    halving = [*words, "hydra/sweeper=halving", *how]
    folder = text.parent / "outputs/sweeps/s"
    leader = started(*halving)
    wait_for(lambda: list(folder.glob("*/rungs.json")))
    os.killpg(leader.pid, signal.SIGKILL)
    wait_for(lambda: not processes(leader.pid))
    before = {file: file.read_text() for file in folder.glob("*/rungs.json")}
    done = sweep(text, *halving)
    assert done.returncode == 1, done.stderr  # every job with 3 heads fails
    assert "2 done, 3 failed, 1 stopped" in done.stdout
    for file, rungs in before.items():  # nothing was trained twice
        assert json.loads(file.read_text())[0] == json.loads(rungs)[0]
    found = {job: Job.read(job) for job in folder.glob("*heads=2*")}
    assert sorted(job.rung for job in found.values()) == [0, 0, 0.1]
    winner = next(path for path, job in found.items() if job.state == "finished")
    again = sweep(text, *words, f"hydra.sweep.dir={folder.with_name('whole')}")
    assert "3 done, 3 failed" in again.stdout
    whole = folder.with_name("whole") / winner.name
    assert (whole / "best.safetensors").read_bytes() == (winner / "best.safetensors").read_bytes()
    stopped = next(path for path, job in found.items() if job.state == "stopped")
    resume = [sys.executable, str(ROOT / "train.py"), f"resume='{stopped}'"]
    assert subprocess.run(resume, cwd=text.parent, capture_output=True).returncode == 0
    promoted = (stopped / "best.safetensors").read_bytes()
    assert promoted == (whole.with_name(stopped.name) / "best.safetensors").read_bytes()
    assert "3 failed, 3 skipped" in sweep(text, *halving).stdout
