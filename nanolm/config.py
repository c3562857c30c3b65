"""What every config dataclass shares: its knobs, checks of their ranges, and the table name -> class of each group.

In: plain values. Out: filled dataclasses, or a ConfigError that names the key and the mend. Knows neither Hydra nor
torch. A group (`data`, `tokenizer`, `optim`, `decode`, `tracking`) is a folder of this package; every dataclass with a
`name` in one of its files is an option of the group, so a new option needs no edit anywhere else.
"""

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from nanolm.errors import ConfigError

MISSING: Any = "???"  # OmegaConf's own mark for "to be given"
GROUPS = ("data", "tokenizer", "optim", "decode", "tracking")
T = TypeVar("T")


def knob(default: T, help: str, *, path: bool = False) -> T:  # noqa: A002 (the word of argparse)
    """A field of a config dataclass and what it means, in a few words: `a | b` for what can be chosen, `null: ...` for
    what nothing means. They are shown by `--help`, in conf/*.yaml and by the app. path: of a file or folder, with `~`.
    """
    metadata = {"help": help, "path": path}
    if isinstance(default, list):
        made: Any = dataclasses.field(default_factory=default.copy, metadata=metadata)
    else:
        made = dataclasses.field(default=default, metadata=metadata)
    return made


def help_of(cls: type, name: str) -> str:
    """What the field `name` means: as the class says, or the nearest base class that does; empty where none does."""
    for base in cls.__mro__:
        field = base.__dict__.get("__dataclass_fields__", {}).get(name)
        if field is not None and field.metadata.get("help"):
            return str(field.metadata["help"])
    return ""


def one_of(key: str, value: Any, options: Sequence[Any]) -> None:
    """Raises ConfigError unless `value` is one of `options`."""
    if value not in options:
        names = ("null" if option is None else str(option) for option in options)
        raise ConfigError(f"{key}={value}: must be one of {', '.join(names)}")


def between(
    key: str, value: float | None, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> None:
    """Raises ConfigError unless low <= value <= high (low < value where `open_low`); None passes."""
    if value is None:
        return
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{key}: must be a number below 2^63")
    if not (low < value if open_low else low <= value) or not value <= high or not math.isfinite(value):
        bounds = []
        if low > -math.inf:
            bounds.append(f"{'above' if open_low else 'at least'} {low:g}")
        if high < math.inf:
            bounds.append(f"at most {high:g}")
        raise ConfigError(f"{key}={value}: must be {' and '.join(bounds) or 'a finite number'}")


@cache
def options(group: str) -> dict[str, type]:
    """The options of a group by name: each dataclass with a `name` that is written in a file of `nanolm/<group>/`.

    Files without a dataclass are not imported: they may need torch, which would slow every start.
    """
    folders = importlib.import_module(f"nanolm.{group}").__path__
    table: dict[str, type] = {}
    for file in sorted(file for folder in folders for file in Path(folder).glob("*.py")):
        if "@dataclass" not in file.read_text("utf-8"):
            continue
        module = importlib.import_module(f"nanolm.{group}.{file.stem}")
        for cls in vars(module).values():
            is_config = isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__
            if is_config and getattr(cls, "name", MISSING) != MISSING:
                table[cls.name] = cls
    return table


def check_name(group: str, config: Any) -> None:
    """Raises ConfigError where a config of `group` bears another name than its class, which alone decides."""
    own = getattr(type(config), "name", MISSING)
    if config.name != own and own != MISSING:
        mend = f"choose {config.name} with {group}={config.name}"
        raise ConfigError(f"{group}.name={config.name}: is not the name of the option chosen, {own}; {mend}")


def build(group: str, values: Mapping[str, Any]) -> Any:
    """The dataclass of `group` that `values["name"]` names, filled from plain `values`; no interpolation, no code.

    Raises ConfigError for an unknown option, an unknown key, or a value of the wrong type.
    """
    name = values.get("name") if isinstance(values, Mapping) else values
    one_of(f"{group}.name", name, list(options(group)))
    return fill(options(group)[str(name)], values, group)


def fill(cls: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """`cls(**values)` with every key and type checked against the dataclass; errors name `prefix.key`."""
    hints = get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix}={values!r}: must be a table of {', '.join(hints)}")
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{prefix}.{key}: no such key; there are {', '.join(sorted(hints))}")
        if not _fits(value, hints[key]):
            kind = getattr(hints[key], "__name__", str(hints[key])).replace("typing.", "")
            raise ConfigError(f"{prefix}.{key}={value!r}: must be {kind}")
    return cls(**values)


def plain(config: Any) -> dict[str, Any]:
    """A dataclass as a plain nested dict, ready for JSON."""
    return dataclasses.asdict(config)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict)
    if parts := get_args(hint):
        return any(_fits(value, part) for part in parts)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)
