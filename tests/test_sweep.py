"""Sweeps: names, what is refused, one process at a time, how the cores are shared out."""

import importlib
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sweeps import ROOT, command, statuses, sweep, write_text

from nanolm.cli.configs import CONF, register
from nanolm.errors import NanolmError
from nanolm.sweep import callback, children, launch
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.follow import Follower
from nanolm.sweep.jobs import Job, job_name, record_failure


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def test_names_hold_the_swept_values_and_the_config() -> None:
    overrides = ["model.dims=32", "data.path=/some/where", "tokenizer.minfreq=2"]
    name = job_name(overrides, ["model.dims", "tokenizer.minfreq"], {"a": 1, "outputs": "x"})
    assert name.startswith("dims=32,minfreq=2-")
    assert len(name.rsplit("-", 1)[1]) == 8
    assert name == job_name(overrides, ["model.dims", "tokenizer.minfreq"], {"a": 1, "outputs": "y", "threads": 3})
    assert name != job_name(overrides, ["model.dims", "tokenizer.minfreq"], {"a": 2, "outputs": "x"})
    hostile = job_name(["k=" + "/../é\x1b" * 200], ["k"], {})
    assert "/" not in hostile
    assert "\x1b" not in hostile
    assert len(hostile) < 100


def test_the_same_command_goes_on_with_its_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        return callback.sweep_name()

    first = name("-m", "model.dims=1,2", "+seed=range(1,4)", "epochs=1")
    assert first.startswith("dims,seed-")
    assert first == name("epochs=1", "model.dims=1,2", "+seed=range(1,4)", "-m", "hydra/launcher=joblib")
    assert first != name("-m", "model.dims=1,2", "+seed=range(1,4)", "epochs=2")


def test_the_cores_are_divided_among_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CORES", 8)
    given: list[dict[str, int | None]] = [{"n_jobs": 1}, {"n_jobs": 3}, {"n_jobs": -1}, {"n_jobs": -7}, {"n_jobs": 99}]
    given += [{}, {"cpus_per_task": None}, {"cpus_per_task": 4}]
    assert [launch.threads_per_job(launcher) for launcher in given] == [None, 2, 1, 4, 1, None, None, 4]


def test_a_job_that_cant_be_composed_is_that_jobs_failure(text: Path) -> None:
    done = sweep(text, "model.dims=many,sixteen")
    assert done.returncode == 1
    assert done.stdout.startswith("2 jobs\n  model.dims: many, sixteen\n")
    assert "2 failed" in done.stdout
    for name, status in statuses(text).items():
        assert str(status["error"]).startswith(f"model.{name}: must be a whole number")


def test_a_job_says_when_it_begins_and_how_many_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever launcher calls it: `run_job` is what each gives its processes."""
    folder = SweepFolder(tmp_path / "s")
    folder.begin(["seed"])
    folder.begin_round(2)
    settings = {"sweep": {"dir": str(folder.path)}, "sweeper": {}, "launcher": {}}

    def refused(node: Any) -> Any:
        raise NanolmError("as told")

    for number in (1, 2):
        hydra = OmegaConf.create(settings | {"overrides": {"task": [f"seed={number}"]}})
        monkeypatch.setattr(launch.HydraConfig, "get", lambda hydra=hydra: hydra)
        assert launch.run_job(OmegaConf.create({"seed": number}), refused, refused) == math.inf
    names = sorted(path.name for path in folder.path.glob("seed=*"))
    lines = [(f"{name} begins", f"{number} of 2 ended: {name} failed: as told") for number, name in enumerate(names, 1)]
    assert capsys.readouterr().out.splitlines() == [line for both in lines for line in both]


def test_what_jobs_note_is_said_where_they_speak_into_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SweepFolder(tmp_path / "s")
    folder.begin(["seed"])
    folder.begin_round(2)
    follower = Follower(folder)
    for name in ("seed=2", "seed=1"):
        folder.mark_begun(name)
        record_failure(folder.path / name, NanolmError("as told"))
        folder.mark_ended(f"{name} 0.0")
        time.sleep(0.02)
    follower.stop()
    said = capsys.readouterr().out.splitlines()
    assert sorted(said[:2]) == ["seed=1 begins", "seed=2 begins"]
    assert said[2:] == [f"{place} of 2 ended: seed={3 - place} failed: as told" for place in (1, 2)]


def test_a_sweep_switched_on_by_its_mode_is_a_sweep(text: Path) -> None:
    words = [word for word in command(text, "hydra.mode=MULTIRUN", "model.dims=many,sixteen") if word != "-m"]
    done = subprocess.run(words, cwd=text.parent, capture_output=True, text=True)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    words = [sys.executable, str(ROOT / "generate.py"), "hydra.mode=MULTIRUN"]
    elsewhere = subprocess.run(words, cwd=text.parent, capture_output=True, text=True)
    assert elsewhere.stderr == "generate.py: -m: only train.py sweeps\n"
    assert not (text.parent / "multirun").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.dims=glob(*)"], "model.dims=glob(*): gives no value to sweep over"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna: nothing to search"),
        (["seed=1,2", "hydra/launcher=submitit_slurm"], "RuntimeError: Could not detect"),
        (["optim.lr=range(0.1,0.5,0)"], "optim.lr=range(0.1,0.5,0): can't be counted out"),
        (["model.dims=interval(1,2)"], "BasicSweeper does not support sweep type"),
    ],
)
def test_a_sweep_that_never_began_says_why_and_leaves_nothing(text: Path, words: list[str], line: str) -> None:
    if "optuna" in words[0]:
        pytest.importorskip("optuna")
    done = sweep(text, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"train.py: {line}")
    assert done.stderr.count("\n") == 1
    assert not (text.parent / "outputs/sweeps/s").exists()


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "cmaes", "nsgaii", "motpe"])
def test_the_seed_is_set_where_the_sampler_has_one(sampler: str, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    register()
    words = [f"outputs={tmp_path}", "hydra/sweeper=optuna", f"hydra/sweeper/sampler={sampler}"]
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("train", words, return_hydra_config=True)
    config.hydra.sweep.dir, config.hydra.sweeper.params = str(tmp_path / "s"), {"seed": "1,2"}
    assert callback.begin_sweep(config).note()["swept"] == ["seed"]
    assert config.hydra.sweeper.sampler.get("seed") == (None if sampler == "grid" else 1)


def test_only_one_process_is_at_a_sweep(tmp_path: Path) -> None:
    first = SweepFolder(tmp_path / "s")
    first.begin(["seed"])
    with pytest.raises(NanolmError, match="another process is at this sweep"):
        SweepFolder(tmp_path / "s").begin(["seed"])


def test_a_child_without_forkserver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    folder = tmp_path / "s" / "job"
    child = children.start(partial(record_failure, folder, NanolmError("as told")), folder, folder / "log.txt")
    child.join()
    children.note_end(child, folder)
    assert Job.read(folder).status == {"state": "failed", "error": "as told"}


def _imports_wandb(place: Path) -> None:
    tempfile.tempdir = str(place)
    importlib.import_module("wandb")
    assert len(list(place.iterdir())) == 2


def test_a_child_leaves_no_folders_of_wandb(tmp_path: Path) -> None:
    place, folder = tmp_path / "tmp", tmp_path / "s" / "job"
    place.mkdir()
    child = children.start(partial(_imports_wandb, place), folder, folder / "log.txt")
    child.join()
    assert child.exitcode == 0
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_without_forkserver(text: Path) -> None:
    script = "import multiprocessing, runpy, sys; multiprocessing.get_all_start_methods = lambda: ['spawn']; "
    script += f"sys.argv[0] = {str(ROOT / 'train.py')!r}; sys.path[0] = {str(ROOT)!r}; "
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", script, *command(text, "epochs=1", "seed=1,2")[2:]]
    done = subprocess.run(words, cwd=text.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout
