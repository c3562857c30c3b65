"""The words after a command, made ready for Hydra: flags first, then overrides that can be meant.

In: argv. Out: argv for Hydra; ConfigError for what can only be a mistake, with the key or option that may be meant.
Knows flags, keys and options; what a value means is `values.py`'s to say.
"""

import re
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from nanolm.cli.configs import CONF, VERBS, choices, option_classes, schemas
from nanolm.cli.values import NOTHING, key_of, parts, read_override
from nanolm.errors import ConfigError

SWEEPS = {"-m", "--multirun"}
HELP = {"-h", "--help"}
ALONE = {*SWEEPS, *HELP, "-r", "--run", "--hydra-help", "--version", "--resolve", "-i", "--info"}
ALONE |= {"-sc", "--shell-completion"}
LOOKS = {*HELP, "-c", "--cfg", "--info=all"}  # at a configuration, without a run
WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"}
WITH_VALUE |= {"--experimental-rerun"}
OF_SWEEPS = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.")
NO_OPTION = re.compile(r"[-+.\d{\[]|(true|false|nan|inf)$", re.IGNORECASE)
REFUSED = {  # keys of Hydra's that mean nothing here
    "hydra.job.chdir": "can't be changed: all paths are read from the folder of the call",
    "hydra.sweep.subdir": "can't be changed: a job's folder is named by its values; hydra.sweep.dir is the sweep's",
}


def ready(verb: str, words: list[str]) -> list[str]:
    """The words of `python VERB.py WORDS` for Hydra. Raises ConfigError."""
    flags, overrides = in_order(words)
    overrides = of_moved_text(verb, overrides)
    check_flags(verb, flags)
    multirun = bool(SWEEPS.intersection(flags))
    for word in overrides:
        if word.startswith(OF_SWEEPS) and not multirun and not LOOKS.intersection(flags):
            raise ConfigError(
                f"{word}: is about a sweep; add -m" if verb == "train" else f"{word}: only train.py sweeps"
            )
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


def of_moved_text(verb: str, words: list[str]) -> list[str]:
    """The overrides with what `data.path=NEW` means where no data is chosen: the run's own text, which has moved."""
    keys = {word.partition("=")[0] for word in words}
    if "data.path" not in keys or "data" in keys:
        return words
    if verb == "evaluate":
        return [word.removeprefix("data.") if word.startswith("data.path=") else word for word in words]
    if verb == "train" and "resume" in keys:
        return ["data=files", *words]
    return words


def check_flags(verb: str, flags: list[str]) -> None:
    """ConfigError for flags that exclude each other, and for a sweep of a verb that has none."""
    names = {flag.partition("=")[0] for flag in flags}
    if SWEEPS & names:
        if verb != "train":
            raise ConfigError("-m: only train.py sweeps")
        if names & {"-c", "--cfg", "-i", "--info", "-r", "--run"}:
            raise ConfigError("-m with --cfg, --info or --run: these are about one run; leave out -m")
    if {"-p", "--package"} & names and not names & {"-c", "--cfg"}:
        raise ConfigError("-p: shows a part of --cfg; a key is set without dashes, as prompt=...")
    if "--resolve" in names and not names & {*HELP, "-c", "--cfg"}:
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
        raise ConfigError(f"{key}: only {' and '.join(having)} {'has' if len(having) == 1 else 'have'} it; {mend}")


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
        classes = [option for option in having if option in schemas()[group]]  # without presets of them
        return f"{group}={' or '.join(classes or having)} has it"
    full = {key: [key] for key in own}
    for place in groups:
        for key in {key for cls in option_classes(place).values() for key in field_names(cls)} - {"name"}:
            full.setdefault(key, []).append(f"{place}.{key}")
    nearest = [last] if last in full else get_close_matches(last, [] if group in groups else full, n=1)
    return f"did you mean {' or '.join(full[nearest[0]])}?" if nearest else ""


def chosen_options(group: str, words: list[str]) -> list[str]:
    """The options that the last word on a group chooses: several in a sweep, none where the default stays."""
    typed = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    return parts(typed[-1]) if typed else []
