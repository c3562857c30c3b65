"""Values as they were typed, for Hydra's grammar: by the type of their key.

In: `key=value` words. Out: words that Hydra reads as what was meant: texts quoted where it needs that, `~` the home
folder, 1e6 a whole number, None nothing; in a sweep value by value. Knows keys and their types, no ranges.
"""

import os
import re
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from nanolm.cli.configs import VERBS, schemas
from nanolm.errors import ConfigError
from nanolm.files import expand_home

QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
BEFORE_COMMA = r"(?=\s*(?:,|$))"
PART = re.compile(rf"\s*((?:{QUOTED}|\[.*?\]|[a-z]+\(.*?\)){BEFORE_COMMA}|[^,]*?)\s*(?:,|$)")
BARE = re.compile(r"(?!(?:true|false|null|nan|inf)$)(?:[a-z_]|\.{0,2}/)[\w./-]*", re.ASCII | re.IGNORECASE)
SWEEP_FUNCTION = re.compile(r"(?:choice|range|interval|glob|shuffle|sort|tag)\(.*\)")
NOTHING = ("null", "none")


@dataclass
class Key:
    """What can be said of the key of an override."""

    name: str
    types: set[Any]  # of its values: int, str, list, NoneType ...
    is_path: bool

    @property
    def is_text(self) -> bool:
        """Whether its values, or the items of its lists, are texts; a key for `true | false | never` is none."""
        return bool({str, list, Any} & self.types) and bool not in self.types


def key_of(verb: str, name: str) -> Key:
    """What the dataclasses say of a key of the verb's; of a group's the options together."""
    if name in ("hydra.run.dir", "hydra.sweep.dir"):
        return Key(name, {str}, is_path=True)
    group, _, last = name.rpartition(".")
    types, is_path = set[Any](), False
    for cls in schemas().get(group, {}).values() if group else [VERBS[verb]]:
        found = next((field for field in fields(cls) if field.name == last), None)
        if found is not None:
            types |= plain_types(get_type_hints(cls)[last])
            is_path = is_path or bool(found.metadata.get("path"))
    return Key(name, types, is_path)


def plain_types(hint: Any) -> set[Any]:
    """Optional[int] -> {int, NoneType}; list[str] -> {list}."""
    if get_origin(hint) is list:
        return {list}
    members = get_args(hint)
    return set().union(*map(plain_types, members)) if members else {hint}


def read_override(verb: str, word: str, multirun: bool) -> str:
    """`key=value` with a value that Hydra reads as its key's type."""
    name, sign, value = word.partition("=")
    key = key_of(verb, name.lstrip("+"))
    if not sign or not key.types or (multirun and SWEEP_FUNCTION.fullmatch(value)):
        return word
    if key.is_path and os.path.exists(expand_home(value)):
        return f"{key.name}={quote(expand_home(value))}"  # even if it looks like a sweep: dims=64,heads=2
    read = read_text if key.is_text else read_number
    values = parts(value) if multirun else [value]
    return f"{key.name}={','.join(read(key, one) for one in values)}"


def parts(value: str) -> list[str]:
    """`a, 'b, c', [d, e]` at its commas outside of quotes and brackets."""
    found = [(part[1], part.end()) for part in PART.finditer(value)]
    if len(found) > 1 and not value.rstrip().endswith(","):
        found.pop()  # the empty part at the end, which every pattern that may be empty finds
    return [part for part, _ in found]


def read_text(key: Key, value: str) -> str:
    """A text, or a list of texts, in quotes where Hydra needs them; in the user's own where there are any."""
    takes_list = bool({list, Any} & key.types)
    if re.fullmatch(QUOTED, value):
        return value
    if takes_list and value.startswith("[") and value.endswith("]"):
        items = parts(value[1:-1]) if value[1:-1].strip() else []
        return f"[{','.join(item if re.fullmatch(QUOTED, item) else quote(home(key, item)) for item in items)}]"
    if {NoneType, Any} & key.types and value.lower() in NOTHING:
        return "null"
    if key.types == {list}:
        if "," in value:
            raise ConfigError(f"{key.name}={value}: a list is written as [a,b], a text with a comma in it as ['a,b']")
        return f"[{quote(value)}]" if value else "[]"
    return quote(home(key, value))


def home(key: Key, text: str) -> str:
    """A path with `~` as the home folder; other texts as they are."""
    return expand_home(text) if key.is_path else text


def quote(text: str) -> str:
    """`'text'`, or the text alone where Hydra reads it as itself."""
    if BARE.fullmatch(text):
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def read_number(key: Key, value: str) -> str:
    """`1e6` and `16.0` as whole numbers where the key wants one, `None` as null where it takes nothing."""
    if NoneType in key.types and value.lower() in NOTHING:
        return "null"
    if "," in value:
        raise ConfigError(f"{key.name}={value}: several values are a sweep of train.py's, with -m; 1000 has no comma")
    if int not in key.types or float in key.types:
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    is_whole = number.is_finite() and number.adjusted() < 20 and number == number.to_integral_value()
    return str(int(number)) if is_whole else value
