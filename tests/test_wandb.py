"""W&B: offline without account or network, online where there is both."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_run import tiny_config

from nanolm.comparing.collect import ABOUT
from nanolm.runs.run import Run
from nanolm.tracking.base import RunInfo, Tracker, TrackingConfig
from nanolm.tracking.offline import Offline
from nanolm.tracking.online import Online, has_account
from nanolm.training import report
from nanolm.training.metrics import COLUMNS
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_wandb_account")


def info(folder: Path, **fields: Any) -> RunInfo:
    return RunInfo("abcd", folder / "run", folder, **fields)


@pytest.mark.slow
def test_a_run_is_tracked_offline(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); folder = Path(sys.argv[1])\n"
        "from nanolm.tracking.offline import Offline; from tiny_run import tiny_config\n"
        "from nanolm.training.train import train; import os\n"
        "config = tiny_config(folder, epochs=1, samples=1, group='a group', tags=['tag'], tracking=Offline())\n"
        "train(config, folder=folder / 'out' / 'run'); sys.stdout.flush(); os._exit(0)\n"
    )
    arguments = [str(tmp_path), str(Path(__file__).parent)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd=Path(__file__).parents[1], timeout=100)
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    reader = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(reader, check=True, capture_output=True, text=True, timeout=100).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    run, about = Run.open(tmp_path / "out" / "run"), next(r["run"] for r in records if r["type"] == "run")
    assert (about["run_id"], about["display_name"], about["run_group"]) == (run.manifest["id"], "run", "a group")
    assert (about["job_type"], about["tags"]) == ("train", ["tag"])
    known = about["config"]["update"]  # compare.py source=wandb reads what is not in the config from here
    assert known["model"]["nblocks"] == 2
    assert {key: known[key] for key in ABOUT} == {key: run.status()[key] for key in ABOUT}
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    logged = [[item.get(column, math.nan) for column in COLUMNS] for item in items if "train_loss" in item]
    np.testing.assert_array_equal(logged, np.genfromtxt(run.folder / "metrics.csv", delimiter=",", skip_header=1))
    assert {"samples._type", "bits_per_byte.path"} <= items[-1].keys()
    summary = {key: value for r in records if r["type"] == "summary" for key, value in r["summary"]["update"].items()}
    assert summary["test_bpb"] == run.status()["test_bpb"]


@pytest.mark.slow
def test_the_documented_wandb_sweep_drives_train(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    sweep = yaml.safe_load((root / "docs" / "wandb-sweep.yaml").read_text())
    chosen = {
        key: space["values"][0] if "values" in space else space["max"] for key, space in sweep["parameters"].items()
    }
    words = {"${env}": ["/usr/bin/env"], "${args_no_hyphens}": [f"{key}={value}" for key, value in chosen.items()]}
    command = [word for part in sweep["command"] for word in words.get(part, [part])]  # as W&B's agent does
    assert command[2:] == ["train.py", "optim.lr=0.01", "model.dims=128", "tracking=online"]
    tiny = ["tracking=disabled", "model.nblocks=1", "model.heads=1", "data.plots=60", "tokens=1", "samples=0"]
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([*command, *tiny, f"outputs={tmp_path}"], check=True, cwd=root, env=os.environ | path, timeout=100)
    (run,) = map(Run.open, tmp_path.glob("2*"))
    assert (run.config["optim"]["lr"], run.config["model"]["dims"]) == (0.01, 128)
    assert sweep["metric"]["name"] in run.status()


@pytest.mark.slow
def test_a_killed_run_has_written_all_but_the_last_second(tmp_path: Path) -> None:
    script = (
        "import os, sys, time, pathlib\n"
        "from nanolm.tracking.base import RunInfo, Tracker\n"
        "from nanolm.tracking.offline import Offline\n"
        "outputs = pathlib.Path(sys.argv[1])\n"
        "tracker = Tracker(Offline(), RunInfo('abcd', outputs / 'x', outputs))\n"
        "[tracker.log({'step': step, 'value': 0.125 + step}) for step in range(5)]\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[1])
    end = time.monotonic() + 50
    while time.monotonic() < end:
        files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
        if files and b"4.125" in files[0].read_bytes():
            break
        time.sleep(0.2)
    else:
        pytest.fail("nothing reached the disk")
    process.kill()
    process.wait()


def test_a_failure_of_wandb_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # its import fails
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    train(tiny_config(tmp_path, epochs=1, tracking=Offline()), folder=tmp_path / "run")
    assert capsys.readouterr().err.count("tracking: offline stopped") == 1
    assert Run.open(tmp_path / "run").finished()


class FakeWandb:
    """Stands for the module wandb: notes how runs are started; a server answers or not."""

    def __init__(self, reachable: bool = True) -> None:
        self.reachable = reachable
        self.begun: list[dict[str, Any]] = []
        self.in_use: set[str | None] = set()
        self.rows: list[dict[str, Any]] = []

    def Settings(self, **_: object) -> None:
        return None

    def init(self, **about: Any) -> Any:
        if about["id"] in self.in_use:
            raise RuntimeError(f"run ID {about['id']} is in use")
        self.in_use.add(about["id"])
        self.begun.append(about)
        if about["mode"] == "online" and not self.reachable:
            raise RuntimeError("timed out")
        ignore = lambda *_, **__: None  # noqa: E731
        return SimpleNamespace(define_metric=ignore, log=self.rows.append, finish=ignore)


def started(config: TrackingConfig, run: RunInfo, fake: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = Tracker(config, run)
    tracker.log({"step": 1})
    tracker.close()
    return fake


def test_online_without_an_account_stays_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = started(Online(), info(tmp_path), FakeWandb(), monkeypatch)
    assert [about["mode"] for about in fake.begun] == ["offline"]
    assert "no W&B account found" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    fake = started(Online(), info(tmp_path), FakeWandb(), monkeypatch)
    assert [about["mode"] for about in fake.begun] == ["online"]


def test_a_key_without_a_network_is_tracked_offline_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    fake = started(Online(), info(tmp_path), FakeWandb(reachable=False), monkeypatch)
    assert [about["mode"] for about in fake.begun] == ["online", "offline"]
    assert fake.rows == [{"step": 1}]
    said = capsys.readouterr().err
    assert "can't be reached" in said
    assert "stopped" not in said


@pytest.mark.slow
def test_wandb_itself_tracks_offline_where_its_server_does_not_answer(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from nanolm.tracking import wandb\n"
        "from nanolm.tracking.base import RunInfo, Tracker\n"
        "from nanolm.tracking.online import Online\n"
        "wandb.PATIENCE = 2; outputs = pathlib.Path(sys.argv[1])\n"
        "tracker = Tracker(Online(), RunInfo('abcd', outputs / 'x', outputs))\n"
        "[tracker.log({'step': step, 'value': 0.125 + step}) for step in range(5)]\n"
        "tracker.close()\n"
    )
    server = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command, root = [sys.executable, "-c", script, str(tmp_path)], Path(__file__).parents[1]
    done = subprocess.run(
        command, check=True, cwd=root, env=os.environ | server, stderr=subprocess.PIPE, text=True, timeout=100
    )
    assert "can't be reached" in done.stderr
    assert "stopped" not in done.stderr
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"4.125" in file.read_bytes()


def test_wandbs_own_variables_fill_what_the_config_leaves_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = info(tmp_path)
    (about,) = started(Offline(), run, FakeWandb(), monkeypatch).begun
    assert (about["project"], about["entity"], about["name"], about["id"]) == ("nanolm", None, "run", "abcd")
    for name in ("PROJECT", "NAME", "SWEEP_ID"):
        monkeypatch.setenv(f"WANDB_{name}", "theirs")
    (about,) = started(Offline(), run, FakeWandb(), monkeypatch).begun
    assert (about["project"], about["name"], about["id"]) == ("theirs", None, None)
    assert (about["entity"], about["group"], about["tags"]) == (None, None, None), "W&B reads its variables"
    (about,) = started(Offline(project="mine"), info(tmp_path, run_name="me"), FakeWandb(), monkeypatch).begun
    assert (about["project"], about["name"]) == ("mine", "me")


def test_the_real_wandb_reads_the_variables_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb_settings = pytest.importorskip("wandb").Settings
    settings = wandb_settings()
    variables = {"WANDB_ENTITY": "e", "WANDB_NAME": "n", "WANDB_RUN_GROUP": "g", "WANDB_TAGS": "a,b"}
    settings.update_from_env_vars(variables)
    assert (settings.entity, settings.run_name, settings.run_group) == ("e", "n", "g")
    assert settings.run_tags == ("a", "b")


def test_an_account_is_found_where_wandb_keeps_it(tmp_path: Path) -> None:
    assert not has_account()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_account()
