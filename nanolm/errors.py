"""The errors and warnings of nanolm, and what is printed of them: one line with the key's name, the fault, the mend.

In: an exception of ours, Hydra's or OmegaConf's. Out: a string without a line break. Imports neither of the two:
theirs are known by their attributes (`full_key`, `missing_cfg_file`, `override`).
"""

import dataclasses
import difflib
import os
import re
import sys
import warnings
from typing import Any


class NanolmError(Exception):
    """A mistake that the user can mend: one line, naming the key, file or row and the mend."""


class ConfigError(NanolmError):
    """A wrong value in the configuration."""


class DataError(NanolmError):
    """A file of text that can't be read or holds nothing to learn from."""


class RunError(NanolmError):
    """A run folder that is missing, damaged, or doesn't fit what was asked of it."""


class NanolmWarning(UserWarning):
    """Something that the user should know, and that hinders nothing."""


class RankGone(RunError):
    """Another process of a run has gone; the run goes on from its last checkpoint.

    `speaks`: whether this rank, the first that is left, is the one to say so.
    """

    speaks = True


KINDS = {
    "Integer": "a whole number, as 1000 or 1e3",
    "Float": "a number, as 0.001 or 1e-3",
    "Boolean": "true or false",
}


def one_line(error: BaseException) -> str:
    """What to print for `error`; our own messages pass as they are."""
    if group := getattr(error, "missing_cfg_file", None):
        return _no_such_option(str(group).removesuffix(".yaml"), getattr(error, "options", None))
    if typed := getattr(error, "override", None):
        return _unreadable(str(typed))
    cause = _about_a_key(error)
    return _key_line(cause) if cause else _squeeze(str(error))


def warn_in_one_line(verb: str) -> None:
    """From here on a warning of ours is printed as `train.py: warning: ...`; others' stay as they are.

    Of torchrun's processes the first one says it.
    """
    python_s = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, NanolmWarning):
            python_s(message, category, *place, **more)
        elif os.environ.get("RANK", "0") == "0":
            print(f"{verb}.py: warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def missing_key(error: BaseException) -> str | None:
    """The full name of the key that there isn't, where that is the error."""
    cause = _about_a_key(error)
    return getattr(cause, "full_key", None) if str(cause).startswith("Key '") else None


def _about_a_key(error: BaseException) -> BaseException | None:
    """OmegaConf's error with a `full_key`, by itself or behind one of Hydra's."""
    return next((one for one in (error, error.__cause__) if getattr(one, "full_key", None)), None)


def _no_such_option(path: str, options: list[str] | None) -> str:
    """Of a group's option, `conf/group/option`, that has no file."""
    group, _, option = path.rpartition("/")
    return f"{group or 'config'}={option}: no such option; there are {', '.join(options or ['none'])}"


def _unreadable(override: str) -> str:
    """Of a word that Hydra's grammar doesn't take: how it would."""
    key, sign, value = override.partition("=")
    if not sign:
        return _squeeze(f"{override}: can't be read; values are set as key=value")
    quoted = value.replace("'", "\\'")
    return _squeeze(f"{key}={value}: can't be read; as text it goes in quotes, \"{key}='{quoted}'\"")


def _key_line(cause: BaseException) -> str:
    """Of a key that there isn't, or of a value that its type refuses."""
    key, first = getattr(cause, "full_key", ""), str(cause).splitlines()[0]
    if first.startswith("Key '"):
        return f"{key}: no such key{_nearest(str(getattr(cause, 'key', '')), getattr(cause, 'object_type', None))}"
    if "issing mandatory value" in first:
        return f"{key}: must be given, as {key}=..."
    if "is not Optional" in first:
        return f"{key}=null: must be given a value"
    if found := re.match(r"Value '(.*)' is not a valid bool", first):
        return _squeeze(f"{key}={found[1]}: must be {KINDS['Boolean']}")
    if found := re.match(r"Value '(.*)' of type '.*' could not be converted to (Integer|Float|Boolean)", first):
        return _squeeze(f"{key}={found[1]}: must be {KINDS[found[2]]}")
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
