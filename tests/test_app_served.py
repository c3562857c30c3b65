"""The page served: programs that call it, a real browser, passwords."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_runs import NASTY, make_outputs, wait

from nanolm.app import page
from nanolm.cli.configs import AppConfig
from nanolm.config import options
from nanolm.errors import ConfigError


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_outputs(tmp_path_factory.mktemp("app"))


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def url(outputs: Path) -> Iterator[str]:
    """The page, served by the door."""
    command = [sys.executable, str(ROOT / "app.py"), f"outputs={outputs}", f"run={outputs}/words", "open=false"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=outputs)
    assert server.stdout
    line = server.stdout.readline()
    assert line.startswith("nanolm: http://127.0.0.1:"), line
    yield line.split()[1]
    assert server.poll() is None, "the server has ended by itself"
    server.terminate()
    server.wait(30)


@pytest.mark.slow
def test_programs_can_call_it(url: str) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(url, verbose=False)
    assert set(client.predict(api_name="/runs")) == {"words", "sweeps/signs"}
    settings = {"name": "sample", "num_return_sequences": 2, "max_new_tokens": 4}
    texts = [client.predict("the army", settings, 1, api_name="/write") for _ in range(2)]
    assert texts[0] == texts[1]
    assert [len(one["tokens"]) <= 4 for one in texts[0]] == [True, True]
    assert client.predict(prompt="the", api_name="/write")[0]["text"].startswith("the")
    assert [row["token"] for row in client.predict("the army", api_name="/look")] == ["the", "army"]
    assert client.predict("é", "sweeps/signs", api_name="/tokens") == [{"id": 1, "token": "<UNK>"}]
    wrong: list[tuple[Any, ...]] = [(5,), ("a", {"name": "nope"}), ("a", {"num_beams": "x"}), ("a", [1]), ("a", 7)]
    wrong += [("a", {}, "x"), ("a", {}, 1, "../words"), ("a" * 10**5,), ("a", {}, 1, [])]
    for arguments in wrong:
        with pytest.raises((AppError, ValueError)):
            client.predict(*arguments, api_name="/write")
    with pytest.raises(AppError, match="no such run"):
        client.predict("a", "nope", api_name="/look")
    assert client.predict("the", api_name="/look")


@pytest.mark.slow
def test_every_tab_in_a_browser(browser: Any, url: str) -> None:
    def shown(selector: str, words: str = "") -> Any:
        return next(e for e in browser.find_elements("css selector", selector) if e.is_displayed() and words in e.text)

    def tab(name: str) -> None:
        wait(lambda: shown("button[role=tab]", name)).click()

    browser.set_window_size(1280, 900)
    browser.get(url)
    tab("Sweeps")
    browser.switch_to.frame(wait(lambda: shown(".live iframe")))
    wait(lambda: shown("#jobs tbody tr", "stop"))
    browser.switch_to.default_content()
    tab("Runs")
    wait(lambda: shown(".comparison iframe"))
    shown("input[role=combobox]").click()
    wait(lambda: shown("[role=option]", "sweeps/signs")).click()
    wait(lambda: shown(".head", "sweeps/signs"))
    tab("Write")
    assert shown("label", "temperature")
    prompt = wait(lambda: shown("textarea"))
    prompt.send_keys(NASTY)
    shown("button.lg", "Write").click()
    assert NASTY in wait(lambda: shown("article", "tokens/s")).text
    shown("button.lg", "All strategies").click()
    written = '[...document.querySelectorAll("article")].filter((card) => card.innerText.includes("tokens/s")).length'
    wait(lambda: browser.execute_script(f"return {written}") == len(options("decode")))
    shown("input[type=radio][value=beam]").click()
    wait(lambda: shown("label", "num_beams"))
    with pytest.raises(StopIteration):
        shown("label", "temperature")
    tab("Look inside")
    wait(lambda: shown(".attention iframe"))
    for kind in ("likelihood", "attention"):
        browser.switch_to.frame(shown(f".{kind} iframe"))
        assert browser.find_element("css selector", "#view").text
        assert not browser.find_elements("css selector", "img")
        browser.switch_to.default_content()
    browser.switch_to.frame(shown(".inside iframe"))
    assert browser.find_element("css selector", "h1").text == "Inside"
    assert browser.find_element("css selector", ".word").text == "Point at a dot or tap it."
    browser.switch_to.default_content()
    tab("Tokens")
    wait(lambda: shown(".chips span"))
    shown("textarea").send_keys(NASTY)
    wait(lambda: len(browser.find_elements("css selector", ".chips span")) > len(NASTY))
    assert browser.title == "nanolm"
    browser.set_window_size(500, 900)
    for name in ("Sweeps", "Runs", "Tokens", "Look inside", "Write"):
        tab(name)
        time.sleep(0.5)
        widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], name
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(asked) > 10
    assert [address for address in asked if not address.startswith(url)] == []


def test_others_in_the_network_need_a_password() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        assert AppConfig(host=host).auth is None
    for host in ("0.0.0.0", "::", "192.168.1.5", "mybox"):
        with pytest.raises(ConfigError, match=r"everybody in the network could use the page; give auth=user:password"):
            AppConfig(host=host)
        assert AppConfig(host=host, auth="open").host == AppConfig(host=host, auth="me:a:b").host == host
    for auth in ("me", "me:", ":secret", ""):
        with pytest.raises(ConfigError) as refused:
            AppConfig(auth=auth)
        assert str(refused.value) == "auth: must be user:password, or open"


@pytest.fixture
def locked_url(outputs: Path) -> Iterator[str]:
    """The page behind a password, in this process."""
    blocks, pages = page.build_app(outputs, str(outputs / "words"))
    threading.Thread(target=page.serve, args=(blocks, pages), kwargs={"auth": "me:s3:cret"}, daemon=True).start()
    yield wait(lambda: blocks.local_url)
    blocks.close()


@pytest.mark.slow
def test_behind_a_password(locked_url: str) -> None:
    import httpx
    from gradio_client import Client

    assert httpx.get(f"{locked_url}config").status_code == 401
    assert httpx.post(f"{locked_url}gradio_api/queue/join", json={"data": [], "fn_index": 0}).status_code == 401
    with pytest.raises(Exception, match=r"(?i)auth|credentials|login|401"):
        Client(locked_url, verbose=False, auth=("me", "wrong")).predict(api_name="/runs")
    client = Client(locked_url, verbose=False, auth=("me", "s3:cret"))
    assert "words" in client.predict(api_name="/runs")
