"""Exports: names of weights, the card, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import untrained
from exported import STOCK, out
from untrained import tokenizer

from nanolm.errors import ConfigError, NanolmError
from nanolm.export.card import escape_markdown
from nanolm.export.export import export
from nanolm.export.hf import NAMES, hf_weights
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer


@pytest.mark.parametrize("model", STOCK.values(), ids=STOCK)
def test_every_weight_gets_a_name_of_its_own(model: dict[str, Any]) -> None:
    network = Transformer(ModelConfig(dims=16, nblocks=3, **({"heads": 2} | model)), 20, 8)
    found = hf_weights(network)
    assert sum(tensor.numel() for tensor in found.values()) == sum(network.summary().values())
    assert len({name for names in NAMES.values() for name in names}) == sum(map(len, NAMES.values()))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"norm": "layer", "norm_position": "post", "mlp": "single"}, "model.norm=layer, model.norm_position=post, "),
        ({"positions": "sinusoidal"}, "model.positions=sinusoidal: "),
        ({"positions": "alibi"}, "model.positions=alibi: "),
        ({"mlp": "relu2", "biases": True}, "model.mlp=relu2, model.biases=True: "),
        ({"attention_output": False}, "model.attention_output=False: "),
        ({"ngrams": 2}, "model.ngrams=2: "),
    ],
    ids=str,
)
def test_what_nobody_else_has_says_so(tmp_path: Path, model: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        out(tmp_path, **model)
    assert str(error.value).startswith(named)
    assert "model=small model.dims=16 model.heads=2 model.nblocks=2" in str(error.value)
    assert not (tmp_path / "out" / "exports").exists()


def test_the_card_has_the_runs_figures_and_shows_its_words_as_text(tmp_path: Path) -> None:
    made = untrained.run(tmp_path)
    nasty = made.folder.rename(made.folder.parent / "<b>|[x](y)`: \n'\"")
    folder = export(str(nasty), "space", str(tmp_path / "space"))
    text = (folder / "README.md").read_text()
    front, _, rest = text.removeprefix("---\n").partition("\n---\n")
    [title] = [line for line in front.splitlines() if line.startswith("title:")]
    assert json.loads(title.removeprefix("title:")) == nasty.name
    assert "<b>" not in rest
    assert "# &lt;b&gt;\\|\\[x\\](y)\\`: &#x27;&quot;\n" in rest
    assert "| this model | 1.25 | 1.5 |" in rest
    assert f"| training.vocabulary | {len(tokenizer())} |" in rest
    assert "| model.dims | 16 |" in rest
    assert str(tmp_path) not in text


def test_values_are_shown_as_they_are() -> None:
    assert [escape_markdown(value) for value in (None, True, 12345, 0.5, "a_b")] == [
        "not measured",
        "True",
        "12,345",
        "0.5",
        "a\\_b",
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "pickle"}, "format=pickle: must be one of hf, space"),
        ({"push": "nobody"}, "push=nobody: must be user/name"),
        ({"push": "a/../b"}, "push=a/../b: must be user/name"),
        ({"folder": "/dev/null/x"}, "/dev/null/x: can't be made"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    untrained.run(tmp_path)
    with pytest.raises(NanolmError, match=re.escape(says)):
        export("latest", **fields, outputs=str(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["hf", "space", "int8"])
def test_a_run_is_never_overwritten_by_its_export(tmp_path: Path, kind: str) -> None:
    made, other = untrained.run(tmp_path).folder, tmp_path / "other"
    other.mkdir()
    (other / "last.safetensors").write_bytes(b"of another run")
    before = {file: file.read_bytes() for file in made.iterdir()}
    for folder in (made, made / ".." / made.name, other):
        with pytest.raises(ConfigError, match="is a run itself, which would be overwritten"):
            export(str(made), kind, str(folder), outputs=str(tmp_path / "out"))
    assert {file: file.read_bytes() for file in made.iterdir()} == before
