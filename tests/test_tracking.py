"""Tracking: offline without account or network, and never in the way."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_run import tiny_config

from nanolm.comparing.records import ABOUT
from nanolm.errors import ConfigError
from nanolm.runs.run import Run
from nanolm.tracking import wandb
from nanolm.tracking.wandb import Tracker, TrackingConfig, has_account
from nanolm.training import report
from nanolm.training.metrics import COLUMNS
from nanolm.training.train import train


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no account, no W&B variables of the machine's."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_SWEEP_ID", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.slow
def test_a_run_is_tracked_offline(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); folder = Path(sys.argv[1])\n"
        "from nanolm.tracking.wandb import TrackingConfig; from tiny_run import tiny_config\n"
        "from nanolm.training.train import train; import os\n"
        "config = tiny_config(folder, epochs=1, samples=1, group='a group', tags=['tag'], tracking=TrackingConfig())\n"
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
        "from nanolm.tracking.wandb import Tracker, TrackingConfig\n"
        "tracker = Tracker(TrackingConfig(), pathlib.Path(sys.argv[1]), {'id': 'abcd', 'name': 'x', 'config': {}})\n"
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


def test_disabled_never_imports_wandb(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from nanolm.tracking.wandb import Tracker, TrackingConfig\n"
        "tracker = Tracker(TrackingConfig(mode='disabled'), pathlib.Path('.'), {})\n"
        "tracker.log({'step': 1}); tracker.close()\n"
        "assert 'wandb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_a_failure_of_wandb_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # its import fails
    monkeypatch.setattr(report, "draw_curves", lambda session, floor: None)
    config = tiny_config(tmp_path, epochs=1)
    config.tracking = TrackingConfig()
    train(config, folder=tmp_path / "run")
    assert capsys.readouterr().err.count("tracking: W&B stopped") == 1
    assert Run.open(tmp_path / "run").finished()


def test_online_without_an_account_stays_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modes: list[str] = []

    class Module:
        """Stands for wandb."""

        @staticmethod
        def Settings(**_: object) -> None:
            return None

        @staticmethod
        def init(mode: str, **_: object) -> None:
            modes.append(mode)
            raise RuntimeError("enough")

    monkeypatch.setitem(sys.modules, "wandb", Module)
    Tracker(TrackingConfig(mode="online"), tmp_path, {"id": "a"}).close()
    assert modes == ["offline"]
    assert "no W&B account found" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    Tracker(TrackingConfig(mode="online"), tmp_path, {"id": "a"}).close()
    assert modes == ["offline", "online", "offline"]
    assert "can't be reached" in capsys.readouterr().err


def test_an_account_is_found_where_wandb_keeps_it(tmp_path: Path) -> None:
    assert not has_account()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_account()


def test_a_wandb_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "PATIENCE", 0.05)
    monkeypatch.setattr(Tracker, "_start", lambda self, wandb: time.sleep(30))
    monkeypatch.setitem(sys.modules, "wandb", sys)
    tracker = Tracker(TrackingConfig(), tmp_path, {})
    tracker.log({"step": 1})
    tracker.close()
    assert tracker.thread.is_alive()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.mode=on"):
        TrackingConfig(mode="on")
