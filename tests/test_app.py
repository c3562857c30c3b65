"""The page: what its handlers give and refuse, and that nothing typed becomes HTML; then served, in a real browser."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, Optional, Union

import gradio as gr
import pytest
from untrained import run, tokenizer

from nanolm.app import controls, look, page, runs, tokens, worker, write
from nanolm.app.models import CHARACTERS, ROWS, TOKENS, Models, limited
from nanolm.app.worker import InterruptibleModel, interruptible
from nanolm.cli.configs import AppConfig
from nanolm.config import knob, options
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.errors import ConfigError
from nanolm.generator import load
from nanolm.tokenizer.base import BOS, EOS

ROOT = Path(__file__).resolve().parent.parent
NASTY = "</script><script>document.title='x'</script><img src=x onerror=\"document.title='x'\">${1+1}{{value}}@children"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `words` and `sweeps/signs`; the latter knows every sign of NASTY."""
    folder = tmp_path_factory.mktemp("app")
    signs = tokenizer("char", "none").config.fit([NASTY] * 3, "none")
    for name, known in {"words": tokenizer(), "sweeps/signs": signs}.items():
        for place in (folder / name, (folder / "outputs" / name).parent):
            place.mkdir(parents=True, exist_ok=True)
        run(folder / name, known, context=24 if name == "words" else 200).folder.rename(folder / "outputs" / name)
    return folder / "outputs"


@pytest.fixture
def models(outputs: Path) -> Models:
    return Models(outputs, str(outputs / "words"))


def written(models: Models, prompt: Any, *configs: DecodeConfig, run: str = "words", seed: Any = 1) -> Any:
    """What is shown at last: HTML, texts."""
    return list(write.write(models, run, prompt, configs, seed))[-1]


def test_runs_are_known_by_their_names_alone(models: Models) -> None:
    assert models.first == "words"
    assert set(models.names()) == {"words", "sweeps/signs"}
    assert ("words · 1.500 bits per byte", "words") in models.choices()
    assert "word tokens" in models.about("words")
    assert models.open("words").model is models.open("words").model
    strangers: list[Any] = ["", ".", "nope", "sweeps", "../outputs/words", "words/", "/etc/passwd", "words\0", None, []]
    for name in [*strangers, str(models.outputs / "words")]:
        with pytest.raises(gr.Error, match="no such run"):
            written(models, "the army", Greedy(), run=name)


def test_a_run_from_elsewhere_brings_its_neighbours(outputs: Path, tmp_path: Path) -> None:
    models = Models(tmp_path, str(outputs / "sweeps" / "signs"))
    assert (models.first, list(models.names())) == ("signs", ["signs"])


@pytest.mark.parametrize(
    "config",
    [Greedy(), Sample(num_return_sequences=3), Beam(num_return_sequences=2), Sample(stop=["a", "dog"])],
    ids=str,
)
def test_it_writes_what_the_generator_gives(models: Models, config: DecodeConfig) -> None:
    html, texts = written(models, "The army, general", config)
    [expected] = models.open("words").complete(["the army general"], limited(config), 1)
    assert [one.prompt + one.new for one in texts] == [one.text for one in expected]
    assert [one.ids[one.read :] for one in texts] == [one.ids for one in expected]
    assert html.count("<article>") == config.num_return_sequences
    assert "tokens/s" in html
    assert html.count("ended with &lt;EOS&gt;") == sum(one.ids[-1] == EOS for one in texts)


def test_texts_grow_side_by_side(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0.001)
    steps = [html for html, _ in write.write(models, "words", "the", [Greedy(), Beam(), Sample()], None)]
    assert len(steps) > 6
    assert [html.count("<article>") for html in steps] == sorted(html.count("<article>") for html in steps)
    assert [word for word in ("greedy", "beam", "sample") if word in steps[-1]] == ["greedy", "beam", "sample"]


def test_unknown_words_are_told(models: Models) -> None:
    html, _ = written(models, "the xyzzy", Greedy(), Sample())
    assert html.count("read as &lt;UNK&gt;: &#x27;xyzzy&#x27;") == 1


@pytest.mark.parametrize(
    ("prompt", "config", "seed", "says"),
    [
        ("a" * (CHARACTERS + 1), Greedy(), 1, "prompt: must be a text"),
        (5, Greedy(), 1, "prompt: must be a text"),
        ("a", Sample(num_return_sequences=ROWS + 1), 1, "samples or beams=17: must be at least 1 and at most 16"),
        ("a", Beam(num_beams=1000), 1, "samples or beams=1000"),
        ("a", Greedy(), "<b>", "seed=&lt;b&gt;: must be a whole number"),
        ("a", Greedy(), -1, "seed=-1"),
        ("a", Greedy(), True, "seed=True"),
    ],
)
def test_refusals_are_one_escaped_line(models: Models, prompt: Any, config: Any, seed: Any, says: str) -> None:
    with pytest.raises(gr.Error) as refused:
        written(models, prompt, config, seed=seed)
    assert str(refused.value.message).startswith(says)
    assert not refused.value.print_exception


def test_texts_are_bounded() -> None:
    assert limited(Sample()).max_new_tokens == TOKENS
    assert limited(Sample(max_new_tokens=10**9)).max_new_tokens == TOKENS
    assert limited(Sample(max_new_tokens=3)).max_new_tokens == 3


@pytest.mark.parametrize("name", options("decode"))
def test_controls_stand_for_every_field(name: str) -> None:
    cls = options("decode")[name]
    made = {key: controls.field_control(DecodeConfig, key) for key in controls.SHARED} | controls.own_controls(cls)
    fields = {field.name for field in dataclasses.fields(cls)} - {"name"}
    assert fields - set(made) == ({"num_return_sequences"} if name == "greedy" else set())
    values = {control: control.value for control in made.values()}
    assert controls.decode_config(name, made, values) == cls()
    if name == "sample":
        values |= {made["top_p"]: "0.9", made["top_k"]: " ", made["temperature"]: 2}
        assert controls.decode_config(name, made, values) == Sample(temperature=2, top_p=0.9)


def test_a_new_strategy_gets_controls_by_itself() -> None:
    @dataclasses.dataclass
    class Strange(Greedy):
        name: str = "strange"
        backwards: bool = True
        mode: Union[bool, str] = knob("never", "false | never: when it ends")
        share: Optional[float] = knob(0.5, "null: none")

    made = controls.own_controls(Strange)
    assert [type(control) for control in made.values()] == [gr.Checkbox, gr.Dropdown, gr.Textbox]
    assert made["mode"].choices == [("false", False), ("never", "never")]
    assert [control.value for control in made.values()] == [True, "never", "0.5"]
    assert [control.info for control in made.values()] == [None, "false | never: when it ends", "none: none"]


def test_controls_say_what_a_base_class_says_of_its_field() -> None:
    assert controls.field_control(Sample, "min_new_tokens").info == "no <EOS> before so many"


def test_likelihoods_are_those_of_the_text_written(models: Models) -> None:
    _, [text] = written(models, "the army", Sample())
    generator = models.open("words")
    rows = look.predictions(generator, text.ids)
    [[one]] = generator.complete(["the army"], limited(Sample()), 1)
    assert sum(row["logprob"] for row in rows[text.read - 1 :]) == pytest.approx(one.logprob, abs=1e-4)
    for row in rows:
        assert 0 < sum(share for _, share in row["top"]) <= 1.0001
        assert row["rank"] > look.TOP or row["top"][row["rank"] - 1][0] == row["token"]
    likelihood, attention, inside = look.look_pages(models, "words", text.prompt + text.new, [text])
    assert likelihood.count("<iframe") == attention.count("<iframe") == inside.count("<iframe") == 1
    for title in ("Layer by layer", "Why “", "What heads are for", "Map of words"):
        assert f"<h2>{title}" in unescape(inside)
    assert 'sandbox="allow-scripts"' in likelihood
    assert "&lt;EOS&gt;" in unescape(likelihood) or text.ids[-1] != EOS
    assert look.look_pages(models, "words", "", [text])[1:] == ("", "")


def test_int8_has_no_parts_to_look_at(models: Models) -> None:
    made = load(models.outputs / "words", quantize="int8")
    assert "int8" in look.inside(made, [BOS, 5, 6])


def test_tokens_show_ids_and_what_is_unknown(models: Models) -> None:
    html = tokens.token_chips(models.open("words").tokenizer, "The army xyzzy!")
    known = models.open("words").tokenizer
    assert f"the<small>{known.encode('the')[0]}</small>" in html
    assert 'class="unknown">xyzzy &lt;UNK&gt;<small>1</small>' in html
    assert "4 tokens, 1 unknown" in html


@pytest.mark.parametrize(("name", "mode"), [("char", "none"), ("word", "none"), ("word", "clean"), ("bpe", "none")])
def test_tokens_put_together_are_the_text(name: str, mode: str) -> None:
    known, text = tokenizer(name, mode), "the dog is a dragon"
    if not known.unknown(text):
        assert "".join(tokens.token_texts(known, known.encode(text))) == text
    assert tokens.token_texts(known, [EOS]) == ["<EOS>"]


def test_nothing_typed_becomes_html(models: Models) -> None:
    html, [text] = written(models, NASTY, Greedy(), run="sweeps/signs")
    pages = look.look_pages(models, "sweeps/signs", text.prompt + text.new, [text])
    chips = tokens.token_chips(models.open("sweeps/signs").tokenizer, NASTY)
    for shown in (html, chips, *pages):
        assert "<img" not in shown
        assert "<script" not in shown


def test_the_comparison_is_framed_and_kept(models: Models) -> None:
    first = runs.comparison(models.outputs, (1.0,))
    assert first.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in first
    assert runs.comparison(models.outputs, (1.0,)) is first


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


def wait(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """What the condition gives once it is true."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (WebDriverException, StopIteration):
            pass
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.mark.slow
def test_every_tab_in_a_browser(browser: Any, url: str) -> None:
    def shown(selector: str, words: str = "") -> Any:
        return next(e for e in browser.find_elements("css selector", selector) if e.is_displayed() and words in e.text)

    def tab(name: str) -> None:
        wait(lambda: shown("button[role=tab]", name)).click()

    browser.set_window_size(1280, 900)
    browser.get(url)
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
    for name in ("Runs", "Tokens", "Look inside", "Write"):
        tab(name)
        time.sleep(0.5)
        widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], name
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(asked) > 10
    assert [address for address in asked if not address.startswith(url)] == []


class SlowModel:
    """Counts how many writings are at a step of the model at once, and when the last step was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_once = self.most = self.steps = 0
        self.lock, step = threading.Lock(), InterruptibleModel.step

        def slow(model: InterruptibleModel, *inputs: Any) -> Any:
            with self.lock:
                self.at_once += 1
                self.steps += 1
                self.most = max(self.most, self.at_once)
            time.sleep(0.02)
            try:
                return step(model, *inputs)
            finally:
                with self.lock:
                    self.at_once -= 1

        monkeypatch.setattr(InterruptibleModel, "step", slow)

    def went_on(self, before: int) -> bool:
        """Whether there were more steps than `before`."""
        return self.steps > before

    def rests(self) -> bool:
        """Whether no step is taken for a while."""
        before = self.steps
        time.sleep(0.2)
        return self.steps == before


@pytest.mark.parametrize("config", [Sample(), Beam(num_beams=2)], ids=["sample", "beam"])
def test_a_writing_that_nobody_waits_for_stops_within_a_token(
    models: Models, config: DecodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowModel(monkeypatch)
    for _ in range(3):  # each is given up while it runs: as Gradio closes what a client cancels
        writing: Any = write.write(models, "sweeps/signs", "", [dataclasses.replace(config, min_new_tokens=150)], 1)
        while slow.at_once == 0:
            next(writing)
        writing.close()
    wait(slow.rests)
    assert slow.most == 1
    assert slow.steps < 3 * 150 / 2
    assert written(models, "the", Greedy())[1], "the model's turn was never given back"


def test_a_program_that_cancels_stops_the_writing(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowModel(monkeypatch)
    generator = models.open("sweeps/signs")

    async def ask() -> None:
        decode = Beam(num_beams=2, min_new_tokens=150)
        for _ in range(2):
            asked = asyncio.create_task(
                models.worker.call(lambda stop: interruptible(generator, stop).complete([""], decode, 1))
            )
            while slow.at_once == 0:
                await asyncio.sleep(0.01)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        assert await models.worker.call(lambda _: "next") == "next"

    asyncio.run(ask())
    assert slow.rests()
    assert slow.most == 1
    assert slow.steps < 150


def test_an_error_of_the_work_reaches_whoever_asked(models: Models) -> None:
    def work(stop: threading.Event) -> Iterator[int]:
        yield 1
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        list(models.worker.stream(work))
    assert sum(len(arrived) for arrived in models.worker.stream(lambda stop: range(5))) == 5


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


@pytest.mark.slow
def test_clients_that_cancel_never_have_two_writings_at_once(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    slow = SlowModel(monkeypatch)
    blocks = page.build_app(outputs, str(outputs / "sweeps" / "signs"))
    threading.Thread(target=page.serve, args=(blocks,), daemon=True).start()
    api = f"{wait(lambda: blocks.local_url)}gradio_api"
    function = next(d["id"] for d in blocks.config["dependencies"] if d["api_name"] == "write")
    settings = {"name": "beam", "num_beams": 2, "min_new_tokens": 150}
    for client in range(3):  # what Gradio's own script sends
        asked = {"data": ["", settings, 1, ""], "fn_index": function, "session_hash": f"client{client}"}
        event = httpx.post(f"{api}/queue/join", json=asked).json()["event_id"]
        before = slow.steps
        wait(partial(slow.went_on, before))
        httpx.post(f"{api}/cancel", json={**asked, "event_id": event})
    wait(slow.rests, 10)
    blocks.close()
    assert slow.most == 1
    assert slow.steps < 150


@pytest.fixture
def locked_url(outputs: Path) -> Iterator[str]:
    """The page behind a password, in this process."""
    blocks = page.build_app(outputs, str(outputs / "words"))
    threading.Thread(target=page.serve, args=(blocks,), kwargs={"auth": "me:s3:cret"}, daemon=True).start()
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
