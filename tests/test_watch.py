"""Jobs that go on: what is known of them, what is read anew, and what the terminal shows."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from watched_sweep import Sweep

from nanolm.comparing.growing import GrowingTable
from nanolm.comparing.live import Jobs
from nanolm.comparing.watch import clock, events, printer, terminal_table
from nanolm.files import write_json

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_what_is_known_of_jobs_that_go_on(sweep: Sweep) -> None:
    sweep.job(32, "finished")
    sweep.job(64, "running", 250, val_bpb=None)
    sweep.job(128, "stopped", 300, rung=0.3)
    (sweep.folder / "dims=3").mkdir()
    write_json(sweep.folder / "dims=3" / "status.json", {"state": "failed", "error": "model.dims=3: no"})
    jobs = Jobs(sweep.config(price_per_hour=3.6))
    shown = jobs.look()
    rows = {Path(row["name"]).name: row for row in shown["jobs"]}
    assert shown["expected"] == 4
    assert [rows[f"dims={d}"]["state"] for d in (32, 64, 128, 3)] == ["finished", "running", "stopped", "failed"]
    assert [rows[f"dims={d}"]["progress"] for d in (32, 64, 128)] == [1, 0.25, 0.3]
    assert rows["dims=64"]["left"] == pytest.approx(3 * rows["dims=64"]["seconds"])
    assert rows["dims=64"]["score"] is not None  # of the last evaluation
    assert rows["dims=32"]["core_hours"] == pytest.approx(2 * rows["dims=32"]["seconds"] / 3600)
    assert rows["dims=32"]["money"] > 0
    assert rows["dims=3"]["why"] == "model.dims=3: no"
    assert [row["can_stop"] for row in shown["jobs"]].count(True) == 1
    assert rows["dims=128"]["can_promote"]
    assert rows["dims=64"]["command"] == "python train.py epochs=3 model.dims=64"
    assert shown["knobs"] == ["model.dims"]
    assert rows["dims=32"]["knobs"] == {"model.dims": 32}
    assert rows["dims=3"]["label"] == "dims=3"  # nothing is known of it but its folder
    assert jobs.look()["version"] == shown["version"]  # nothing is read again
    sweep.job(64, "running", 500)
    assert jobs.look()["version"] > shown["version"]
    terminal_table(shown)


def test_how_many_jobs_there_will_be_is_not_known_of_halving(sweep: Sweep) -> None:
    sweep.job(32)
    assert Jobs(sweep.config()).look()["expected"] == 4
    write_json(sweep.folder / "sweep.json", {"command": ["train.py", "-m", "hydra/sweeper=halving"], "jobs": 9})
    assert Jobs(sweep.config()).look()["expected"] is None


def test_a_folder_in_any_state_is_shown(sweep: Sweep) -> None:
    for place, content in enumerate(["", "[1]", '{"state": 5}', '{"steps": "x", "seconds": null}']):
        (sweep.folder / f"job{place}").mkdir()
        (sweep.folder / f"job{place}" / "status.json").write_text(content)
    (sweep.job(32) / "metrics.csv").write_text("step,seconds\n10")
    diverged = sweep.job(64, "failed", rung=float("nan"), val_bpb=float("inf"))
    (diverged / "metrics.csv").write_text("step,tokens,seconds,train_loss\n10,1,1,inf\n20,2,2,nan\n30,3,3,1\n")
    write_json(sweep.folder / "sweep.json", {"swept": 5, "command": "x", "started": float("nan")})
    shown = Jobs(sweep.config()).look()
    assert len(shown["jobs"]) == 6
    json.dumps(shown, allow_nan=False)  # which a browser couldn't read


def test_a_line_per_event(sweep: Sweep) -> None:
    jobs = Jobs(sweep.config())
    folder = sweep.job(64, "running", 250, val_bpb=None)
    before = jobs.look()
    [line] = events({}, before)
    assert line.startswith(f"{folder}: running 25% 2.")
    assert events(before, before) == []
    sweep.job(64, "failed", 250, val_bpb=None, error="the loss is nan")
    [line] = events(before, jobs.look())
    assert line.endswith("the loss is nan")
    assert [clock(s) for s in (None, 5, 65, 3723)] == ["", "0:05", "1:05", "1:02:03"]


def test_in_a_pipe_every_event_is_printed_once(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = Jobs(sweep.config())
    sweep.job(32, "running", 250, val_bpb=None)
    with printer(Console(file=io.StringIO())) as show:
        show(jobs.look())
        show(jobs.look())
        sweep.job(32, "finished")
        show(jobs.look())
    states = [line.split(": ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert states == ["running", "finished"]


def test_in_a_terminal_the_table_is_no_longer_than_it(sweep: Sweep) -> None:
    for dims in (16, 32, 64, 128):
        sweep.job(dims)
    out = io.StringIO()
    with printer(Console(file=out, force_terminal=True, width=120, height=10)) as show:
        show(Jobs(sweep.config()).look())
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).split())  # without colours and breaks
    assert "dims=128" in text
    assert "dims=32" not in text
    assert "4 running" in text
    assert "2 more on the page" in text


def test_the_server_has_no_use_for_torch() -> None:
    code = "import sys, nanolm.comparing.watch; assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_of_a_growing_file_only_what_is_new_is_read(tmp_path: Path) -> None:
    path, table = tmp_path / "metrics.csv", GrowingTable(tmp_path / "metrics.csv")
    path.write_text("step,tokens,seconds,val_bpb,new\n10,100,1.5,,7\n20,200,3,2.5,7\n30,3")
    assert table.read()["step"].tolist() == [10, 20]
    with open(path, "a") as file:
        file.write("00,4.5,,7\n")
    assert table.read()["tokens"].tolist() == [100, 200, 300]
    assert table.latest == {"step": 30, "tokens": 300, "seconds": 4.5, "val_bpb": 2.5}
    path.write_text("step,tokens,seconds,val_bpb\n10,100,1.5,\n20,201,3,x\n30,301,4,2\n40,401,5,2\n")  # of a resume
    assert table.read()["tokens"].tolist() == [100, 201, 301, 401]


def test_a_link_in_a_strangers_run_shows_nothing(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = sweep.job(64)
    for name in ("samples.txt", "metrics.csv"):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "secret")
    [job] = Jobs(sweep.config()).look()["jobs"]
    assert job["samples"] == ""
    assert not job["curves"]["train_loss"]["y"]
