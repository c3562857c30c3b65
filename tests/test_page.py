"""Pages: escaping, no network, and the comparison in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from comparing_runs import config, make_run

from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.web.html import Html, page, plotly, png, tag

NASTY = """</script><script>document.title='pwned'</script><img src=x onerror="document.title='pwned'">&amp;$title'`"""


def test_tags_escape_what_is_no_html() -> None:
    assert (
        tag("td", "<b>&", Html("<i></i>"), class_="a", data_v='"<')
        == '<td class="a" data-v="&quot;&lt;">&lt;b&gt;&amp;<i></i></td>'
    )
    assert png(b"x", "a").startswith('<img src="data:image/png;base64,')


def test_no_text_leaves_its_place() -> None:
    text = page("compare", NASTY, tag("p", NASTY), [NASTY])
    assert text.count("</script>") == 2  # the data's and the script's own
    assert "<img src=x" not in text
    data = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert data
    assert json.loads(data[1]) == [NASTY]


def test_a_page_asks_for_nothing_from_the_network(tmp_path: Path) -> None:
    make_run(tmp_path / "run", config())
    text = compare(CompareConfig(outputs=str(tmp_path), baselines=False)).read_text()
    assert text.count(plotly()) == 1
    text = text.replace(plotly(), "")  # which the policy keeps from asking too
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


@pytest.mark.slow
def test_the_comparison_in_a_browser(browser: Any, tmp_path: Path) -> None:
    for place, dims in enumerate((32, 128, 64, 256)):
        folder = make_run(tmp_path / f"run{place}", config(model__dims=dims, tokenizer__minfreq=place))
        (folder / "samples.txt").write_text(f"{NASTY} of {dims}")
    (tmp_path / NASTY.replace("/", "")).mkdir()
    (tmp_path / NASTY.replace("/", "") / "status.json").write_text(json.dumps({"state": "failed", "error": NASTY}))
    browser.get(compare(CompareConfig(outputs=str(tmp_path), baselines=False)).as_uri())

    def column(header: str) -> list[str]:
        heads = [head.text for head in browser.find_elements("css selector", "table.sortable th")]
        place = 1 + next(i for i, head in enumerate(heads) if head.startswith(header))
        return [cell.text for cell in browser.find_elements("css selector", f"table.sortable td:nth-child({place})")]

    assert browser.title.startswith("nanolm: ")
    assert column("model.dims") == ["256", "128", "64", "32"]
    (button,) = (b for b in browser.find_elements("css selector", "th button") if b.text == "model.dims")
    button.click()
    assert column("model.dims") == ["32", "64", "128", "256"]
    button.click()
    assert column("model.dims") == ["256", "128", "64", "32"]
    cards = browser.find_elements("css selector", ".card")
    assert len(cards) == 3
    assert f"{NASTY} of 256" in cards[0].text
    browser.find_elements("css selector", "input[type=checkbox]")[3].click()
    assert len(browser.find_elements("css selector", ".card")) == 4
    kinds = [box.get_attribute("data-kind") for box in browser.find_elements("css selector", ".chart")]
    assert kinds == ["history", "parallel", "slices", "curves", "heat"]  # four runs say nothing of importances
    brushed = browser.execute_script(
        "const plot = document.querySelector('[data-kind=parallel]').plot;"
        "return Plotly.restyle(plot, {'dimensions[1].constraintrange': [[0, 100]]}).then(() => "
        "[...document.querySelectorAll('tr.faint')].length)"
    )
    assert brushed == 2  # those of 256 and 128 dims
    assert all(image.get_property("naturalWidth") > 0 for image in browser.find_elements("css selector", "img"))
    assert NASTY in browser.find_elements("css selector", "table.texts td")[1].text
    browser.set_window_size(500, 800)  # no wider than a small screen: the table scrolls inside
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_nothing_in_a_config_becomes_html_in_a_figure(browser: Any, tmp_path: Path) -> None:
    for place in range(12):
        values = config(model__dims=32 * 2 ** (place % 3), data__path=f"{NASTY}{place % 2}", seed=place // 6)
        make_run(tmp_path / f"run{place}{NASTY.replace('/', '')}", values)
    browser.get(compare(CompareConfig(outputs=str(tmp_path), baselines=False)).as_uri())
    kinds = [box.get_attribute("data-kind") for box in browser.find_elements("css selector", ".chart")]
    assert kinds == ["history", "parallel", "importances", "slices", "curves", "heat"]
    assert browser.title.startswith("nanolm: ")
    assert not browser.find_elements("css selector", ".chart img, .chart script")
    shown = browser.execute_script("return document.querySelector('[data-kind=heat]').textContent")
    assert "</script>" in shown
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
