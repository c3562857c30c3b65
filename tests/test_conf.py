"""conf/ can be read without the code: its files list every field of the dataclasses, with its default and a help."""

import dataclasses
from pathlib import Path

import pytest
from conf_yaml import files, renewed

from nanolm.cli.configs import schemas
from nanolm.config import help_of

CLASSES = sorted({cls for table in schemas().values() for cls in table.values()}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("file", files(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_yaml_lists_the_fields_of_its_dataclass(file: Path) -> None:
    assert file.read_text() == renewed(file), "`make conf` writes it anew"


def test_every_option_has_a_yaml() -> None:
    listed = {(file.parent.name, file.stem) for file in files()}
    options = {(group, name) for group, table in schemas().items() for name in table if group in ("data", "tokenizer")}
    assert options - {("data", "named")} <= listed  # named: conf/data/shakespeare.yaml and others


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_says_what_it_means(cls: type) -> None:
    for field in dataclasses.fields(cls):
        is_group = field.name in schemas() or field.name == "name"
        about = help_of(cls, field.name)
        assert is_group or about, f"{cls.__name__}.{field.name}: has no help; knob(default, 'a few words')"
        assert len(about) <= 100
        assert about.isprintable()
