"""format=web in a real browser: its tokenizers give our ids, its page writes our text. And what is said without it.

The page's tests want the two files of onnxruntime-web where `fetched_runtime` keeps them, which .ci/run fetches.
"""

import functools
import http.server
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import untrained
from untrained import TEXTS

from nanolm.errors import ConfigError
from nanolm.export import web
from nanolm.export.export import export
from nanolm.files import user_cache
from nanolm.generator import load
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS
from nanolm.web.html import resource

KINDS = [(name, mode) for name in ("char", "word", "bpe") for mode in ("clean", "none")]
ODD = ["<EOS>", "a <BOS> b", "x<UNK>", "", "  ", "İΣ ΑΣ. ΑΣ'Α", "a\n\nb\t \r\nc", "don't [1] [note 2] stop!?"]
ODD += ["\ufeff\ufeffx", "naïve nai\u0308ve \ufb01 ½ ²", "x\u0085y\u1680 \u3000 z\x1c", "'s we'll  'LL 12a"]
ODD += ["👩\u200d👧 ⅷ 一二三。四"]


@pytest.mark.parametrize(("name", "mode"), KINDS, ids=str)
def test_a_tokenizer_of_the_page_gives_our_ids(browser: Any, tmp_path: Path, name: str, mode: str) -> None:
    ours = untrained.tokenizer(name, mode)
    ours.save(tmp_path / "tokenizer.json")
    chance = random.Random(0)
    signs = "".join(ODD + TEXTS)
    texts = [*ODD, *TEXTS, *("".join(chance.choices(signs, k=chance.randrange(30))) for _ in range(200))]
    ids = [chance.choices(range(len(ours)), k=chance.randrange(12)) for _ in range(100)]
    script = (
        resource("tokens.js")
        + """
        const [file, texts, ids] = arguments, made = makeTokenizer(JSON.parse(file)), plain = texts.map(made.normalise);
        return [plain, plain.map(made.encode), plain.map(made.unknown), ids.map(made.decode)];
        """
    )
    found = browser.execute_script(script, (tmp_path / "tokenizer.json").read_text("utf-8"), texts, ids)
    plain = [normalise(text, mode) for text in texts]
    assert found[0] == plain
    assert found[1] == [ours.encode(text) for text in plain]
    assert found[2] == [ours.unknown(text) for text in plain]
    assert found[3] == [ours.decode(some) for some in ids]


@pytest.fixture
def runtime() -> None:
    """Skips where the runtime would have to be fetched."""
    if not (user_cache() / web.PACKAGE).is_dir():
        pytest.skip("python export.py format=web has not fetched onnxruntime-web yet")
    pytest.importorskip("onnxscript")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of tmp_path/page."""
    (tmp_path / "page").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "page"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Page:
    """The page in the browser."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait("return !document.querySelector('#go').disabled")

    def wait(self, script: str) -> None:
        """Until the script says so."""
        for _ in range(600):
            if self.browser.execute_script(script):
                return
            time.sleep(0.05)
        pytest.fail(self.text("state"))

    def text(self, name: str) -> str:
        found: str = self.browser.execute_script(f"return document.querySelector('#{name}').textContent")
        return found

    def write(self, prompt: str, temperature: float, tokens: int) -> str:
        for name, value in {"prompt": prompt, "temperature": temperature, "tokens": tokens}.items():
            self.browser.execute_script(f"document.querySelector('#{name}').value = arguments[0]", value)
        self.browser.find_element("id", "go").click()
        self.wait("return document.querySelector('#go').textContent == 'Write'")
        return self.text("text")


@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("name", ["word", "char", "bpe"])
def test_the_page_writes_our_text(browser: Any, tmp_path: Path, served: str, name: str) -> None:
    run = untrained.run(tmp_path, untrained.tokenizer(name), kv_heads=1, context=32)
    export(str(run.folder), "web", str(tmp_path / "page"), outputs=str(tmp_path / "out"))
    ours, page = load(run.folder, precision="fp32", recorded=False), Page(browser, served)
    ours.tell = lambda line: None
    for prompt in ("", "the army general", "A dog & a <b>zebra</b>!", " ".join(TEXTS)):
        assert page.write(prompt, 0, 20) == ours.generate(prompt, decode="greedy", max_new_tokens=20)
    assert "tokens: only its last 24 are read, the context is 32" in page.text("told")
    assert page.write("the sea", 1.5, 10) != page.write("the sea", 1.5, 10)
    resources = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(one.startswith(served) for one in resources)
    for entry in browser.get_log("browser"):
        assert entry["level"] != "SEVERE" or "favicon" in entry["message"], entry


@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_the_page_fits_a_phone_and_says_what_is_missing(browser: Any, tmp_path: Path, served: str) -> None:
    run = untrained.run(tmp_path)
    export(str(run.folder), "web", str(tmp_path / "page"), outputs=str(tmp_path / "out"))
    browser.set_window_size(420, 760)
    page = Page(browser, served)
    page.write(" ".join(TEXTS), 1, 20)
    browser.execute_script("const go = document.querySelector('#go'); go.click(); go.click()")
    page.wait("return document.querySelector('#go').textContent == 'Write'")
    assert page.text("state").startswith("1 tokens")  # the second click stops it
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    (tmp_path / "page" / "model.onnx").unlink()
    browser.get(served)
    page.wait("return document.querySelector('#state').textContent.startsWith('This page')")
    assert "model.onnx: 404" in page.text("state")
    browser.get_log("browser")


def test_a_runtime_that_is_another_or_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained.run(tmp_path)
    (tmp_path / "package" / "dist").mkdir(parents=True)

    def refused(kind: str = "web", **given: str) -> str:
        with pytest.raises(ConfigError) as error:
            export(str(run.folder), kind, outputs=str(tmp_path / "out"), **given)
        return str(error.value)

    package = str(tmp_path / "package")
    assert refused(runtime=package).startswith(
        f"runtime={package}: has no dist/{web.SCRIPT}; `npm pack onnxruntime-web@"
    )
    for name in web.RUNTIME:
        (tmp_path / "package" / "dist" / name).write_text("another")
    assert f"dist/{web.SCRIPT} is not that of {web.PACKAGE}" in refused(runtime=package)
    assert refused("hf", runtime=package) == f"runtime={package}: is for format=web only, not format=hf"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    assert refused().startswith(f"runtime=null: format=web needs {web.PACKAGE}, and npm to fetch it")
    assert not (tmp_path / "out" / "exports").exists()


def test_the_tokens_of_the_page_are_ours() -> None:
    assert f"[0, 1, {BOS}, {EOS}]" in resource("tokens.js")
    assert json.loads(resource("hub/hf.json"))["config.json"]["bos_token_id"] == BOS
