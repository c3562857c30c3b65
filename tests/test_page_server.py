"""The live page: whom it answers, what it sends, what its buttons do; then in a real browser."""

import json
import math
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from watched_sweep import Sweep

from nanolm.comparing import live, page_server
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.live import Jobs
from nanolm.comparing.page_server import Watch, serve_watch
from nanolm.errors import ConfigError, NanolmError
from nanolm.files import write_json

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


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
    monkeypatch.setattr(live, "SHARE", math.inf)  # or a slow look makes the next one wait

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
