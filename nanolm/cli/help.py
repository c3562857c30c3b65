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


def help_text(config: DictConfig, words: Any) -> str:
    """The whole text; {group} in the header of hydra.help (`words`) stands for the group's options."""
    header = re.sub(r"(?<!\$)\{(\w+)\}", lambda found: choices(found[1]), unresolved(words)["header"])
    rows = list(table(config, ""))
    wide = max(len(left) for left, about in rows if about)
    lines = [f"{left:{wide}}  # {about}" if about else left for left, about in rows]
    how = "Every value below can be set as key=value, data.val=0.1 for one of a group:"
    return "\n".join([header, how, "", *lines, "", words.footer])


def unresolved(node: Any) -> Any:
    """Its plain values; ${...} stays what a reader is to type."""
    return OmegaConf.to_container(node)


def table(config: DictConfig, indent: str) -> Iterator[tuple[str, str]]:
    """`key: value` and its meaning, row by row; below a group's option its keys."""
    cls: Any = OmegaConf.get_type(config)
    for key, value in unresolved(config).items():
        if isinstance(value, dict) and not indent:
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
