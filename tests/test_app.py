"""The page's handlers: what they give and refuse, and that nothing typed becomes HTML."""

import dataclasses
from html import unescape
from pathlib import Path
from typing import Any, Optional, Union

import gradio as gr
import pytest
from app_runs import NASTY, make_outputs, written
from untrained import tokenizer

from nanolm.app import controls, look, runs, tokens, worker, write
from nanolm.app.models import CHARACTERS, ROWS, TOKENS, Models, limited
from nanolm.config import knob, options
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.generator import load
from nanolm.tokenizer.base import BOS, EOS


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_outputs(tmp_path_factory.mktemp("app"))


@pytest.fixture
def models(outputs: Path) -> Models:
    return Models(outputs, str(outputs / "words"))


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
