"""The words after a command, made ready for Hydra: each value as it was typed, by the type of its key.

In: argv. Out: argv that Hydra's grammar reads as what was meant: flags first, texts quoted, `~` the home folder, 1e6 a
whole number, None nothing. ConfigError for what can only be a mistake. Knows keys and types; composes nothing.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from nanolm.cli.configs import CONF, VERBS, choices, option_classes, schemas
from nanolm.errors import ConfigError
from nanolm.files import expand_home

SWEEPS = {"-m", "--multirun"}
ALONE = {*SWEEPS, "-r", "--run", "-h", "--help", "--hydra-help", "--version", "--resolve", "-i", "--info"}
ALONE |= {"-sc", "--shell-completion"}
LOOKS = {"-c", "--cfg", "-h", "--help", "--info=all"}  # at a configuration, without a run
WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"}
WITH_VALUE |= {"--experimental-rerun"}
NO_OPTION = re.compile(r"[-+.\d{\[]|(true|false|nan|inf)$", re.IGNORECASE)
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
BEFORE_COMMA = r"(?=\s*(?:,|$))"
PART = re.compile(rf"\s*((?:{QUOTED}|\[.*?\]|[a-z]+\(.*?\)){BEFORE_COMMA}|[^,]*?)\s*(?:,|$)")
BARE = re.compile(r"(?!(?:true|false|null|nan|inf)$)(?:[a-z_]|\.{0,2}/)[\w./-]*", re.ASCII | re.IGNORECASE)
SWEEP_FUNCTION = re.compile(r"(?:choice|range|interval|glob|shuffle|sort|tag)\(.*\)")
NOTHING = ("null", "none")
REFUSED = {  # keys of Hydra's that mean nothing here
    "hydra.job.chdir": "can't be changed: all paths are read from the folder of the call",
    "hydra.sweep.subdir": "can't be changed: a job's folder is named by its values; hydra.sweep.dir is the sweep's",
}


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


def ready(verb: str, words: list[str]) -> list[str]:
    """The words of `python VERB.py WORDS` for Hydra. Raises ConfigError."""
    flags, overrides = in_order(words)
    check_flags(verb, flags)
    multirun = bool(SWEEPS.intersection(flags))
    for word in overrides:
        check_word(verb, word)
        check_option(word, overrides, multirun or bool(LOOKS.intersection(flags)))
    return [*flags, *(read_override(verb, word, multirun) for word in overrides)]


def in_order(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides: argparse wants the former first. hydra.mode=MULTIRUN is the flag -m."""
    flags, overrides = list[str](), list[str]()
    waiting = False
    for word in words:
        name = word.partition("=")[0]
        if waiting or name in WITH_VALUE:
            flags.append(word)
            waiting = not waiting and "=" not in word
        elif name in ("-i", "--info") and "=" not in word:
            flags.append("--info=all")  # by itself it would take an override for its value
        elif name in ALONE or word == "hydra.mode=MULTIRUN":
            flags.append("-m" if name == "hydra.mode" else word)
        elif word.startswith("-"):
            mend = name.lstrip("-")
            raise ConfigError(f"{word}: no such flag; a key is set without dashes, as {mend}=...")
        else:
            overrides.append(word)
    return flags, overrides


def check_flags(verb: str, flags: list[str]) -> None:
    """ConfigError for flags that exclude each other, and for a sweep of a verb that has none."""
    names = {flag.partition("=")[0] for flag in flags}
    if SWEEPS & names:
        if verb != "train":
            raise ConfigError("-m: only train.py sweeps")
        if names & {"-c", "--cfg", "-i", "--info", "-r", "--run"}:
            raise ConfigError(
                "-m with --cfg, --info or --run: these are about one run; leave -m out, one value per key"
            )
    if "--resolve" in names and not names & {"-c", "--cfg", "-h", "--help"}:
        raise ConfigError("--resolve: goes with --cfg job or --help")


def check_word(verb: str, word: str) -> None:
    """ConfigError for a word that sets nothing, and for a key that there isn't: after a `+` Hydra would take it."""
    key, sign, _ = word.partition("=")
    name = key.lstrip("+")
    if not sign and not key.startswith("~"):
        raise ConfigError(f'{word}: values are set as key=value; what holds blanks goes in quotes, as "key=two words"')
    if not name.strip("~"):
        raise ConfigError(f"{word}: values are set as key=value, without blanks around the sign")
    if name in REFUSED:
        raise ConfigError(f"{name}: {REFUSED[name]}")
    is_ours = "." not in name or name.partition(".")[0] in schemas()
    if is_ours and sign and not is_group(name) and not key_of(verb, name).types:
        hint = elsewhere(verb, name)
        if hint or key.startswith("+"):
            raise ConfigError(f"{name}: no such key{hint and f'; {hint}'}")


def check_option(word: str, words: list[str], several: bool) -> None:
    """ConfigError for an option that is none, another's name, and a key that only some of the swept options have."""
    key, _, text = word.partition("=")
    group, dot, name = key.lstrip("+").partition(".")
    if not is_group(group):
        return
    if not dot and (NO_OPTION.match(text) or text.lower() in NOTHING):
        raise ConfigError(f"{key}={text}: must be a name; there are {choices(group)}")
    if not dot and not several and ("," in text or group == "sweep"):
        raise ConfigError(f"{key}={text}: makes several runs; add -m")
    chosen = chosen_options(group, words)
    if name == "name" and chosen != [text]:
        raise ConfigError(f"{key}={text}: an option's name can't be changed; choose the option with {group}={text}")
    if len(chosen) < 2 or not dot:
        return
    having = options_with(group, name)
    without = [option for option in chosen if option not in having]
    if having and without:
        those = ",".join(option for option in chosen if option in having)
        mend = f"sweep {group}={those} with it, and {group}={','.join(without)} without"
        raise ConfigError(f"{key}: only {' and '.join(having)} has it; {mend}")


def is_group(name: str) -> bool:
    """Whether `name` is a folder of conf/, whose options are chosen by their names."""
    return bool(name) and Path(CONF, name).is_dir()


def options_with(group: str, key: str) -> list[str]:
    """The options of a group whose dataclass has a key."""
    return [option for option, cls in option_classes(group).items() if key in field_names(cls)]


def field_names(cls: type) -> list[str]:
    """The keys of a dataclass."""
    return [field.name for field in fields(cls)]


def elsewhere(verb: str, name: str) -> str:
    """Where a key that there isn't may be meant: `did you mean optim.lr?`, `data=files has it`; empty: nowhere."""
    group, _, last = name.rpartition(".")
    own = [key for key in field_names(VERBS[verb]) if key not in schemas()]
    groups = [key for key in field_names(VERBS[verb]) if key in schemas()]
    if group in groups and (having := options_with(group, last)):
        return f"{group}={' or '.join(having)} has it"
    full = {key: [key] for key in own}
    for place in groups:
        for key in {key for cls in option_classes(place).values() for key in field_names(cls)} - {"name"}:
            full.setdefault(key, []).append(f"{place}.{key}")
    nearest = [last] if last in full else get_close_matches(last, [] if group in groups else full, n=1)
    return f"did you mean {' or '.join(full[nearest[0]])}?" if nearest else ""


def chosen_options(group: str, words: list[str]) -> list[str]:
    """The options that the words choose for a group: several in a sweep, none where the default stays."""
    return [option for word in words if word.startswith(f"{group}=") for option in parts(word.partition("=")[2])]


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
        return f"[{quote(value)}]"
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
