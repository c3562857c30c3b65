"""A decoding strategy's fields as controls, explained by the help of each field; and back, a config.

Knows no single strategy: a new one shows up by itself.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import gradio as gr
from gradio.components import Component

from nanolm.config import build, help_of
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError

SHARED = [field.name for field in fields(DecodeConfig) if field.name not in ("name", "num_return_sequences")]
WORDS: dict[str, Any] = {"true": True, "false": False}


def own_controls(cls: type) -> dict[str, Component]:
    """Controls of a strategy's own fields; the number of texts is one where there may be several."""
    names = [field.name for field in fields(cls) if field.name not in ("name", *SHARED)]
    try:
        cls(num_return_sequences=2)
    except ConfigError:
        names.remove("num_return_sequences")
    return {name: field_control(cls, name) for name in names}


def field_control(cls: type, name: str) -> Component:
    """One field's: a box to tick, a number, a choice where the help begins with `a | b`, or words."""
    info = help_of(cls, name)
    choices = info.partition(":")[0].split(" | ")
    about: dict[str, Any] = {"label": name, "min_width": 165, "info": info.replace("null", "none") or None}
    hint = get_type_hints(cls)[name]
    if hint == list[str]:
        about["info"] += "; one a line"
        return gr.Textbox("", placeholder="none", lines=1, max_lines=4, max_length=200, **about)
    default = getattr(cls, name)
    if hint is bool:
        return gr.Checkbox(default, **about)
    if hint in (int, float):
        return gr.Number(default, precision=0 if hint is int else None, step=1 if hint is int else 0.1, **about)
    if len(choices) > 1:
        return gr.Dropdown([(word, WORDS.get(word, word)) for word in choices], value=default, **about)
    return gr.Textbox(default, placeholder="none", max_lines=1, max_length=40, **about)  # a gr.Number can't be empty


def control_value(value: Any) -> Any:
    """What a control holds: of typed words the number that they spell, None where there are none."""
    try:
        return json.loads(value.strip() or "null") if isinstance(value, str) else value
    except ValueError:
        return value


def decode_config(name: str, controls: Mapping[str, Component], values: Mapping[Component, Any]) -> DecodeConfig:
    """The strategy as its controls stand. Raises ConfigError."""
    fields_set = {key: control_value(values[component]) for key, component in controls.items()}
    hints = get_type_hints(DecodeConfig)
    for key in fields_set:
        if hints.get(key) == list[str]:
            fields_set[key] = (values[controls[key]] or "").splitlines()
    made: DecodeConfig = build("decode", {"name": name, **fields_set})
    return made
