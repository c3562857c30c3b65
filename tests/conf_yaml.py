"""conf/*.yaml as the dataclasses want it: every field with its value and what it means. `make conf` writes it.

In: the YAML files. Out: their text, with the list of fields renewed; heads, groups and Hydra's own part stay as they
are. A field that is new gets its default; an option named like its dataclass has the dataclass's defaults throughout,
a preset (`model=small`) keeps its own values.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nanolm.cli.configs import CONF, schemas
from nanolm.cli.help import spelled
from nanolm.config import MISSING, help_of

SCHEMA = re.compile(r"  - /schema/(\w+)/(\w+)@_here_\n")


def files() -> list[Path]:
    """The YAML files that list a dataclass. A known corpus says only what makes it that: files.yaml lists its keys."""
    found = {file: SCHEMA.search(file.read_text()) for file in sorted(Path(CONF).glob("**/*.yaml"))}
    return [file for file, schema in found.items() if schema and schema.groups() != ("data", "named")]


def renewed(file: Path) -> str:
    """What `file` should hold."""
    text = file.read_text()
    found = SCHEMA.search(text)
    assert found
    group, name = found.groups()
    cls = schemas()[group][name]
    given: Any = OmegaConf.to_container(OmegaConf.create(text))
    kept = given if group != "verb" and file.stem != name else {}
    head, _, rest = text.partition("  - _self_\n")
    groups = re.search(r"\A(  - .*\n)*", rest)
    below = re.search(r"^hydra:\n(.*\n)*\Z", rest, re.MULTILINE)
    assert groups
    fields = lines(cls, kept)
    parts = [head, "  - _self_\n", groups[0], *(["\n"] if fields else []), *fields]
    return "".join(parts) + (f"\n{below[0]}" if below else "")


def lines(cls: type, given: dict[str, Any]) -> list[str]:
    """`key: value  # what it means` for each field, the remarks in one column; a preset says its name first."""
    pairs = [("name", given["name"], "")] if "name" in given else []
    for field in dataclasses.fields(cls):
        made = field.default_factory() if callable(field.default_factory) else field.default
        about = help_of(cls, field.name)
        if about and made != MISSING:
            pairs.append((field.name, given.get(field.name, made), about))
    wide = max((len(f"{key}: {spelled(value)}") for key, value, _ in pairs), default=0)
    return [f"{f'{key}: {spelled(value)}':{wide}}  # {about}".rstrip(" #") + "\n" for key, value, about in pairs]


if __name__ == "__main__":
    for file in files():
        file.write_text(renewed(file))
