"""What heads look at: the weights are the model's own, the figures are right, and the page shows them."""

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import run, tokenizer

from nanolm.cli.attend import attend
from nanolm.decode.greedy import Greedy
from nanolm.errors import ConfigError
from nanolm.generator import load
from nanolm.interpret.attention import attention_page, attention_weights, head_table, text_ids

PROMPT = "the army general is sent to"
NASTY = ["<BOS>", "</script><script>alert(1)</script>", " ", "\n", '"&amp;', "\u202ex"]


def some(layers: int = 2, heads: int = 3, size: int = len(NASTY)) -> np.ndarray:
    """Random weights (layers, heads, size, size)."""
    shares = np.tril(np.random.default_rng(0).random((layers, heads, size, size)) ** 4)
    return shares / shares.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "model", [{}, {"heads": 4, "kv_heads": 2, "qk_norm": False}, {"positions": "sinusoidal"}], ids=str
)
def test_weights_are_those_of_the_cached_steps(tmp_path: Path, model: dict[str, Any]) -> None:
    network = run(tmp_path, **model).model()
    ids = list(range(4, 14))
    whole = attention_weights(network, ids)
    assert whole.shape == (2, network.config.heads, 10, 10)
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
    assert not np.triu(whole, 1).any()
    cache = network.new_cache(1)
    with torch.inference_mode():
        for place, token in enumerate(ids):
            layers: list[torch.Tensor] = []
            network(torch.tensor([[token]]), cache, layers)
            np.testing.assert_allclose(torch.cat(layers)[:, :, 0], whole[:, :, place, : place + 1], atol=1e-5)


def test_figures_of_heads_that_are_known() -> None:
    size = 9
    itself, before, first = np.eye(size), np.eye(size, k=-1), np.zeros((size, size))
    before[0, 0] = first[:, 0] = 1
    rows = head_table(np.stack([[itself, before, first]])).set_index("head").drop(columns="layer").astype(float)
    assert rows.loc["1"].tolist() == [0, 0, 0, 0]
    assert rows.loc["2"].tolist() == [1, 0, 1, 0.125]  # for one token of eight, the one before is the first
    assert rows.loc["3"].tolist() == [4.5, 0, 0.125, 1]


def test_the_page_holds_the_weights_and_escapes_the_tokens() -> None:
    found = some()
    text = attention_page(NASTY, found, "<b>run</b>")
    assert text.count("<script>") == 1
    assert "<b>" not in text
    assert "http:" not in text
    assert "https:" not in text
    kept = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert kept
    data = json.loads(kept[1])
    assert data["tokens"] == NASTY
    stored = np.frombuffer(base64.b64decode(data["weights"]), np.uint8).reshape(2, 3, -1)
    np.testing.assert_allclose((stored / 255) ** 2, found[:, :, *np.tril_indices(len(NASTY))], atol=0.004)


def test_a_page_of_128_tokens_stays_small() -> None:
    assert len(attention_page(["token"] * 128, some(6, 8, 128), "")) < 700_000


def test_the_verb_writes_pictures_table_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    folder = attend("latest", PROMPT, layer=2, head=1, outputs=tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {"heads.png", "layer2-head1.png", "heads.csv", "index.html"}
    with open(folder / "heads.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["layer", "head", "distance", "entropy", "previous", "<BOS>"]
    assert [row[:2] for row in table[1:]] == [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]]
    assert "distance" in capsys.readouterr().out
    assert attend("latest", PROMPT, outputs=tmp_path / "out") == folder


def test_what_is_written_is_looked_at_too(tmp_path: Path) -> None:
    writer = load(run(tmp_path).folder)
    [(_, prompt)] = writer.encode_prompts([PROMPT], Greedy())
    [[found]] = writer.complete([PROMPT], Greedy())
    assert text_ids(writer, PROMPT, None, None) == prompt
    assert text_ids(writer, PROMPT, Greedy(), 1) == (prompt + found.ids)[: writer.model.context]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": None}, "prompt: must be given"),
        ({"layer": 0}, "layer=0: must be at least 1"),
        ({"layer": 3}, "layer=3: must be at least 1 and at most 2"),
        ({"head": 3}, "head=3: must be at least 1 and at most 2"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    run(tmp_path)
    with pytest.raises(ConfigError, match=says):
        attend("latest", **({"prompt": PROMPT} | fields), outputs=tmp_path / "out")
    assert not (tmp_path / "out" / "attention").exists()


def test_tokens_that_no_font_has_are_drawn_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run(tmp_path, tokenizer("char", "none"))
    attend("latest", "日本\n\x1b[31m$x$", outputs=tmp_path / "out")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    found = some()
    (tmp_path / "index.html").write_text(attention_page(NASTY, found, "a run"), "utf-8")
    browser.get((tmp_path / "index.html").as_uri())

    def chosen(place: int, picked: np.ndarray) -> tuple[str, str]:
        """What the line under the text says of the token under the pointer."""
        top = int(picked[place, : place + 1].argmax())
        share = 100 * picked[place, top]
        return f"token {place + 1} of {len(NASTY)}", f"{share:.0f}%" if share >= 9.95 else f"{share:.1f}%"

    chips = browser.find_elements("css selector", ".token")
    heads = browser.find_elements("css selector", ".head")
    line = browser.find_element("css selector", ".now")
    assert [chip.text for chip in chips[:2]] == NASTY[:2]
    assert len(heads) == 6
    mean = found.mean((0, 1))
    for place in (1, 4):
        browser.execute_script(
            "arguments[0].dispatchEvent(new PointerEvent('pointerenter', {pointerType: 'mouse'}))", chips[place]
        )
        assert all(words in line.text for words in chosen(place, mean)), line.text
    heads[4].click()
    assert all(words in line.text for words in chosen(4, found[1, 1])), line.text
    assert heads[4].get_attribute("aria-pressed") == "true"
    chips[5].click()  # holds it
    browser.execute_script(
        "arguments[0].dispatchEvent(new PointerEvent('pointerenter', {pointerType: 'mouse'}))", chips[0]
    )
    assert all(words in line.text for words in chosen(5, found[1, 1])), line.text
    chips[5].send_keys("\ue012")  # the left arrow
    assert all(words in line.text for words in chosen(4, found[1, 1])), line.text
    for entry in browser.get_log("browser"):
        assert entry["level"] != "SEVERE", entry
