"""A configuration error in one line: the key's full name, what is wrong with it, and the mend.

In: an exception of Hydra's, OmegaConf's or our own. Out: a string without a line break. Imports neither of the two.
"""

import dataclasses
import difflib
import re

KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def one_line(error: BaseException) -> str:
    """What to print for `error`; our own messages pass as they are."""
    if group := getattr(error, "missing_cfg_file", None):
        group, _, option = str(group).removesuffix(".yaml").rpartition("/")
        there = ", ".join(getattr(error, "options", None) or ["none"])
        return f"{group or 'config'}={option}: no such option; there are {there}"
    cause = error if getattr(error, "full_key", None) else error.__cause__
    key = getattr(cause, "full_key", None)
    if cause is None or not key:
        return _squeeze(str(error))
    first = str(cause).splitlines()[0]
    if first.startswith("Key '"):
        return f"{key}: no such key{_nearest(str(getattr(cause, 'key', '')), getattr(cause, 'object_type', None))}"
    if "Missing mandatory value" in first:
        return f"{key}: must be given, as {key}=..."
    if found := re.match(r"Value '(.*)' of type '.*' could not be converted to (Integer|Float|Boolean)", first):
        return f"{key}={found[1]}: must be {KINDS[found[2]]}"
    return f"{key}: {_squeeze(first)}"


def _nearest(key: str, cls: object) -> str:
    """`; did you mean ...` or `; there are ...` from the fields of the dataclass that refused the key."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return ""
    names = [field.name for field in dataclasses.fields(cls)]
    close = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(names))}"


def _squeeze(text: str) -> str:
    """One line that a terminal only shows: control characters in a file's name or a value do nothing."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


class NanolmError(Exception):
    """A mistake that the user can mend: one line, naming the key, file or row and the mend."""


class ConfigError(NanolmError):
    """A wrong value in the configuration."""


class DataError(NanolmError):
    """A file of text that can't be read or holds nothing to learn from."""


class RunError(NanolmError):
    """A run folder that is missing, damaged, or doesn't fit what was asked of it."""
