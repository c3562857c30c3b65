"""torchrun: two ranks train as one process, stop when asked, outlive a rank, go on with any number of ranks."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_resume import Killed, assert_same, interrupt
from tiny_run import free_port, rows, write_documents

from nanolm.runs.run import Run
from nanolm.training.config import train_config
from nanolm.training.plan import steps_at
from nanolm.training.train import train

ROOT = Path(__file__).resolve().parent.parent
STEPS = 20
TINY = "model=tiny model.dims=16 model.heads=2 model.nblocks=2 tokenizer.minfreq=2 data=files seed=3"
TINY += " model.ngrams=3 model.ngram_rows=200"
TINY += " data.val=0.15 data.test=0.15 batch_size=6 log_every=1 compile=off precision=fp32 samples=0 tracking=disabled"


@contextmanager
def torchrun(*arguments: str, restarts: int = 0, nodes: int = 1) -> Iterator[subprocess.Popen[str]]:
    """train.py in two processes, as of one machine or of two (`nodes`); they are gone at the end."""
    where = [["--standalone", "--nproc-per-node=2"]]
    if nodes == 2:
        there = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
        where = [[*there, f"--node-rank={number}"] for number in range(nodes)]
    pipe, environment, processes = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}, []
    for place in where:
        command = [sys.executable, "-m", "torch.distributed.run", *place, f"--max-restarts={restarts}", "train.py"]
        command += arguments
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=pipe, stdout=pipe, text=True))
    try:
        yield processes[0]
    finally:
        for process in processes:
            process.terminate()  # torchrun hands it on to the others
        for process in processes:
            process.communicate(timeout=100)


def losses(run: Path) -> np.ndarray:
    """The loss of each step so far."""
    return np.array([float(row["train_loss"]) for row in rows(run)])


def wait_for_steps(process: subprocess.Popen[str], outputs: Path, steps: int) -> Path:
    """Waits until the run under `outputs` has had more than `steps` steps; its folder."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        metrics = list(outputs.glob("2*/metrics.csv"))
        if metrics and len(metrics[0].read_text().splitlines()) > steps + 1:
            return metrics[0].parent
        time.sleep(0.05)
    process.terminate()
    raise AssertionError(process.communicate(timeout=100))


def rank_of(process: subprocess.Popen[str], rank: int) -> Path:
    """The place in /proc of one of torchrun's processes."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == process.pid and f"RANK={rank}".encode() in variables:
            return place
    raise AssertionError(f"no rank {rank}")


def kill_rank(process: subprocess.Popen[str], rank: int) -> None:
    """SIGKILL for one of torchrun's processes."""
    os.kill(int(rank_of(process, rank).name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("optim", "nodes"), [("adamw", 2), ("muon", 1), ("muon", 2)])
def test_two_ranks_train_as_one_process_and_hand_on_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optim: str, nodes: int
) -> None:
    text, outputs = write_documents(tmp_path / "text.txt", 50), tmp_path / "out"
    words = [*TINY.split(), "model.dropout=0", "accumulate=2", "epochs=1000", f"data.path={text}"]
    words += [f"optim={optim}", f"outputs={outputs}"]
    with torchrun(*words, nodes=nodes) as process:
        run = wait_for_steps(process, outputs, STEPS)
        common = (rank_of(process, 0) / "maps").read_text().count("/memfd:")
        process.terminate()
        printed, _ = process.communicate(timeout=100)
    assert (common > 0) == (nodes == 1)  # else what they say goes through sockets
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
    scores = [[float(row["val_bpb"]) for row in rows(place) if row["val_bpb"]] for place in (run, tmp_path / "one")]
    count = min(map(len, scores))
    assert count > 2
    np.testing.assert_allclose(scores[0][:count], scores[1][:count], rtol=1e-5)
    before, copy = len(two), Path(shutil.copytree(run, tmp_path / "copy"))
    with torchrun(f"resume={run}", f"outputs={outputs}") as process:
        wait_for_steps(process, outputs, before + STEPS)
    np.testing.assert_allclose(losses(run)[: before + STEPS], alone(copy, STEPS), rtol=1e-5)


@pytest.mark.slow
def test_a_dead_rank_ends_the_run_with_a_word_and_a_restart_ends_it_as_if_nothing_had_been(tmp_path: Path) -> None:
    text = write_documents(tmp_path / "text.txt", 50)
    words = [*TINY.split(), "model.dropout=0.1", "epochs=8", "checkpoint_seconds=0", f"data.path={text}"]
    with torchrun(*words, f"outputs={tmp_path / 'whole'}") as process:
        assert process.wait(timeout=120) == 0
    with torchrun(*words, f"outputs={tmp_path / 'broken'}") as process:
        broken = wait_for_steps(process, tmp_path / "broken", 5)
        kill_rank(process, 1)
        begun = time.monotonic()
        _, told = process.communicate(timeout=100)
        assert time.monotonic() - begun < 60
    line = "rank 1 of 2 has ended or can't be reached any more; resume= goes on from the last checkpoint"
    assert told.count(f"train.py: {line}\n") == 1
    status = Run.open(broken).status()
    assert (status["state"], status["error"]) == ("interrupted", line)
    with torchrun(*words, f"outputs={tmp_path / 'restarted'}", restarts=1) as process:
        restarted = wait_for_steps(process, tmp_path / "restarted", 5)
        kill_rank(process, 1)
        assert process.wait(timeout=120) == 0
    with torchrun(f"resume={broken}", f"outputs={tmp_path / 'broken'}") as process:
        assert process.wait(timeout=120) == 0
    [whole] = (tmp_path / "whole").glob("2*")
    assert_same(whole, broken)
    assert_same(whole, restarted)
    assert len(list((tmp_path / "restarted").glob("2*"))) == 1
    words = [word for word in words if not word.startswith(("model", "tokenizer", "epochs"))]
    with torchrun(*words, f"init={whole}", "minutes=0.01", f"outputs={tmp_path / 'new'}") as process:
        assert process.wait(timeout=120) == 0
    [new] = (tmp_path / "new").glob("2*")
    assert Run.open(new).finished()
    step = Run.open(new).status()["step"]
    assert step == steps_at(Run.open(new).manifest["plan"], step)


@pytest.mark.slow
@pytest.mark.skipif(
    not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("ip") and shutil.which("tc")),
    reason="needs root and the commands ip and tc",
)
def test_two_machines_one_of_which_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    hosts = importlib.import_module("parallel")
    text, outputs = write_documents(tmp_path / "text.txt", 50), tmp_path / "out"
    words = [*TINY.split(), "epochs=100000", "checkpoint_seconds=0", f"data.path={text}", f"outputs={outputs}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(number: int) -> subprocess.Popen[str]:
        command = [*hosts.launched_on(number), "train.py", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)

    with hosts.two_hosts():
        first, second = start(0), start(1)
        try:
            run = wait_for_steps(first, outputs, 5)
            subprocess.run(f"ip -n {hosts.HOSTS[1]} link set v{hosts.HOSTS[1]} down".split(), check=True)
            begun = time.monotonic()
            said = [process.communicate(timeout=120)[1] for process in (first, second)]
        finally:
            for process in (first, second):
                process.kill()
    assert time.monotonic() - begun < 100
    line = "rank 1 of 2 has ended or can't be reached any more; resume= goes on from the last checkpoint"
    assert said[0].count(f"train.py: {line}\n") == 1
    assert "rank 1 has lost its connection" in said[1]
    assert Run.open(run).status()["error"] == line


@pytest.mark.slow
def test_what_ends_a_rank_while_the_others_wait_for_it_is_told_by_the_first(tmp_path: Path) -> None:
    text, outputs = write_documents(tmp_path / "text.txt", 50), tmp_path / "out"
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    started = []
    for rank, path in enumerate((text, tmp_path / "elsewhere.txt")):  # as on a machine that doesn't have the text
        command = [sys.executable, "train.py", *TINY.split(), f"data.path={path}", f"outputs={outputs}"]
        environment = os.environ | shared | {"RANK": str(rank)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1]
    missing = f"data.path={tmp_path / 'elsewhere.txt'}: no such file"
    assert said[0].splitlines()[-1].startswith(f"train.py: rank 1 of 2 has ended: {missing}")
    assert said[1] == ""
