"""The live page: what it shows of jobs that go on, whom it answers, what its buttons do; then in a real browser."""

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from comparing_runs import config, make_run
from rich.console import Console

from nanolm.comparing import live, page_server
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.growing import GrowingTable
from nanolm.comparing.live import Jobs
from nanolm.comparing.page_server import Watch, serve_watch
from nanolm.comparing.watch import clock, events, printer, terminal_table
from nanolm.errors import ConfigError, NanolmError
from nanolm.files import write_json

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["train.py", "-m", "model.dims=32,64", "epochs=3", "hydra/launcher=joblib"]


class Sweep:
    """A sweep's folder that is written as its jobs would write it."""

    def __init__(self, outputs: Path) -> None:
        self.outputs, self.folder = outputs, outputs / "sweeps" / "dims"
        self.folder.mkdir(parents=True)
        note = {"swept": ["model.dims"], "command": COMMAND, "started": time.time(), "jobs": 4}
        write_json(self.folder / "sweep.json", note)

    def job(self, dims: int, state: str = "running", step: int = 1000, **status: Any) -> Path:
        """A job at a step of 1,000, written over what it was."""
        folder = self.folder / f"dims={dims}"
        known = {"state": state, "step": step, "steps": 1000, "seconds": 0.06 * step}
        make_run(folder, config(model__dims=dims), known | status)
        lines = (folder / "metrics.csv").read_text().splitlines()[: 1 + step // 10]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        write_json(folder / "environment.json", {"threads": 2, "processes": 1})
        return folder

    def config(self, **fields: Any) -> CompareConfig:
        """What compare.py is told."""
        return CompareConfig(sweep="dims", outputs=str(self.outputs), watch=True, **fields)


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


@pytest.fixture
def served(sweep: Sweep) -> Iterator[tuple[Watch, int]]:
    made = Watch(sweep.config())
    server = serve_watch(made)
    yield made, server.server_port
    server.shutdown()
    server.server_close()


def request(port: int, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_only_the_page_itself_can_press_a_button(sweep: Sweep, served: tuple[Watch, int]) -> None:
    made, port = served
    folder = sweep.job(64, "running", 250)
    body, here = json.dumps({"job": str(folder)}), f"http://127.0.0.1:{port}"
    refused: list[dict[str, str]] = [
        {},
        {"X_Token": "wrong"},
        {"X_Token": "é"},
        {"X_Token": made.token, "Origin": "http://evil.example"},
        {"X_Token": made.token, "Origin": "null"},
        {"X_Token": made.token, "Host": f"evil.example:{port}"},
        {"X_Token": made.token, "Host": "127.0.0.1:80", "Origin": here},
    ]
    for headers in refused:
        assert request(port, "POST", "/stop", body, **headers)[0] == 403, headers
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert request(port, "GET", "/", **headers)[0] == 403  # the token is in it
        assert request(port, "GET", "/data", **headers)[0] == 403
    assert not (folder / ".stop").exists()
    for job in ("../../etc", str(folder.parent), "", None, [1], {"a": 1}):
        status, said = request(port, "POST", "/stop", json.dumps({"job": job}), X_Token=made.token)
        assert (status, "no such job" in said) == (200, True)
    for odd in ("", "[", "[]", "{}", '"x"'):
        assert request(port, "POST", "/stop", odd, X_Token=made.token)[0] == 200
    status, said = request(port, "POST", "/stop", body, X_Token=made.token, Origin=here)
    assert (status, json.loads(said)["said"]) == (200, "dims=64: asked to save and stop")
    assert (folder / ".stop").exists()
    assert request(port, "POST", "/delete", body, X_Token=made.token)[0] == 404
    assert request(port, "GET", "/../secret")[0] == 404


def test_a_promotion_starts_the_training_that_goes_on(
    sweep: Sweep, served: tuple[Watch, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = served
    folder, started = sweep.job(64, "stopped", 300, rung=0.3), []
    monkeypatch.setattr(page_server.subprocess, "Popen", lambda command, **how: started.append((command, how)))
    said = request(port, "POST", "/promote", json.dumps({"job": str(folder)}), X_Token=made.token)[1]
    [(command, how)] = started
    assert command[1:] == [str(ROOT / "train.py"), f"resume={folder}"]
    assert how["start_new_session"]
    assert "goes on" in said


def test_only_what_has_changed_is_sent(
    sweep: Sweep, served: tuple[Watch, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.0)

    def data(since: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(request(served[1], "GET", f"/data?since={since}")[1])
        return found

    finished, growing = sweep.job(32), sweep.job(64, "running", 500, val_bpb=None)
    first = data("0")
    assert first["whole"]["names"] == [str(finished), str(growing)]
    assert first["jobs"][str(growing)]["curves"]["train_loss"]["tokens"][-1] == 500 * 2000
    version = first["version"]
    served[0].jobs.pause = 0.0
    again = data(version)
    assert (again["whole"], again["jobs"], again["version"]) == ({}, {}, version)
    for odd in ("x", "", "-1", "9" * 30, "%C3%A9"):
        assert data(odd)["jobs"].keys() == first["jobs"].keys()
    sweep.job(64, "running", 600, val_bpb=None)
    news = data(version)
    assert news["whole"] == {}
    assert news["jobs"].keys() == {str(growing)}
    assert {"curves", "progress"} < news["jobs"][str(growing)].keys()
    assert not {"config", "label", "samples", "knobs"} & news["jobs"][str(growing)].keys()


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


def test_mistakes_are_one_line(sweep: Sweep, served: tuple[Watch, int]) -> None:
    with pytest.raises(ConfigError, match=r"port=\d+: can't listen there"):
        serve_watch(served[0], served[1])
    with pytest.raises(ConfigError, match="watch=true: looks at the run folders"):
        CompareConfig(watch=True, source="wandb")
    with pytest.raises(NanolmError, match="sweep=nope: no such sweep"):
        Jobs(CompareConfig(sweep="nope", outputs=str(sweep.outputs)))


def wait(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.mark.slow
def test_in_a_browser_a_job_appears_its_curve_grows_and_buttons_work(
    browser: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.3)
    started: list[Any] = []
    monkeypatch.setattr(page_server.subprocess, "Popen", lambda command, **how: started.append(command))
    nasty = "</script><img src=x onerror=\"document.title='x'\">"
    sweep.job(32, "running", 200, val_bpb=None)
    (sweep.folder / "dims=3").mkdir()
    write_json(sweep.folder / "dims=3" / "status.json", {"state": "failed", "error": nasty})
    server = serve_watch(Watch(sweep.config()))
    browser.set_window_size(1180, 900)
    browser.get(f"http://127.0.0.1:{server.server_port}/")

    def rows() -> list[str]:  # at once: the table may be drawn anew at any moment
        return list(
            browser.execute_script("return [...document.querySelectorAll('#jobs tbody tr')].map((r) => r.innerText)")
        )

    def points() -> int:
        script = "const plot = document.querySelector('[data-kind=curves]')?.plot; return plot ? plot.data.reduce("
        return int(browser.execute_script(f"{script}(all, trace) => all + trace.x.length, 0) : 0"))

    def press(job: str, words: str) -> None:
        script = "[...document.querySelectorAll('#jobs tr')].find((row) => row.dataset.job?.endsWith(arguments[0]))"
        find = f"{script}.querySelectorAll('button')"
        browser.execute_script(f"[...{find}].find((button) => button.textContent === arguments[1]).click()", job, words)

    wait(lambda: len(rows()) == 2)
    before = wait(points)
    sweep.job(32, "running", 600, val_bpb=None)
    wait(lambda: points() > before)
    sweep.job(64, "stopped", 300, rung=0.3)
    wait(lambda: len(rows()) == 3)
    assert any("stopped at 30%" in row for row in rows())
    press("dims=32", "stop")
    wait((sweep.folder / "dims=32" / ".stop").exists)
    press("dims=64", "promote")
    wait(lambda: started)
    sweep.job(32, "finished")
    sweep.job(64, "finished")
    wait(lambda: browser.find_elements("css selector", "[data-kind=parallel]"))
    assert any(nasty in row for row in rows())
    assert browser.title == "nanolm"
    browser.set_window_size(500, 900)
    time.sleep(0.5)
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    server.shutdown()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
