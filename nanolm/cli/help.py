"""What `--help` prints: the head of conf/<verb>.yaml, and each key with its value and what it means.

In: the composed configuration. Out: a text. The words are those of the dataclasses, which conf/ shows too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nanolm.cli.configs import choices
from nanolm.config import help_of

WORDS = ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf")  # that YAML doesn't read as text


def help_text(*, _root_: DictConfig) -> str:
    """The whole text, for Hydra's template; {group} in hydra.help.header stands for the group's options."""
    hydra: Any = OmegaConf.to_container(_root_.hydra.help)  # ${...} stays what a reader is to type
    header = re.sub(r"(?<!\$)\{(\w+)\}", lambda found: choices(found[1]), hydra["header"])
    rows = list(table(_root_, ""))
    wide = max(len(left) for left, about in rows if about)
    lines = [f"{left:{wide}}  # {about}" if about else left for left, about in rows]
    how = "Every value below can be set as key=value, data.val=0.1 for one of a group:"
    return "\n".join([header, how, "", *lines]).replace(
        "$", "$$"
    )  # Hydra's template fills in what stands after a single one


def table(config: DictConfig, indent: str) -> Iterator[tuple[str, str]]:
    """`key: value` and its meaning, row by row; below a group's option its keys."""
    cls: Any = OmegaConf.get_type(config)
    values: Any = OmegaConf.to_container(config)
    for key, value in values.items():
        if isinstance(value, dict) and not indent and key != "hydra":
            yield f"{key}: {value.get('name', '')}".rstrip(), ""
            yield from table(config[key], "  ")
        elif not isinstance(value, dict) and not (indent and key == "name"):
            yield f"{indent}{key}: {spelled(value)}", help_of(cls, key)


def spelled(value: Any) -> str:
    """A value as conf/ writes it, so that OmegaConf reads the same value."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value) and value not in WORDS:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e-", ".0e-") if re.fullmatch(r"\de-\d+", text) else text
