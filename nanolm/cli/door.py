"""Where Hydra meets the house: the types of every config, and the door that each root script opens.

In: argv. Out: a typed, checked dataclass for the verb; a mistake of the user's becomes one line and exit status 1.
Imports nothing heavy, so that `--cfg job` answers at once.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nanolm.cli.configs import CONF, choices, register
from nanolm.errors import ConfigError, NanolmError, one_line
from nanolm.files import user_path
from nanolm.training.config import TrainConfig

# What Hydra must not parse; `sweep` is also a folder of conf/
VERBATIM = {"generate": ("prompt",), "attend": ("prompt",), "compare": ("sweep", "runs")}
EXTRAS = {"gradio": "app"}  # packages that not everybody installs: the extra of pyproject.toml that brings each
NO_OPTION = re.compile(r"[-+.\d{\[]|(true|false|nan|inf)$", re.IGNORECASE)


def lift(argv: list[str], keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """argv without the arguments that set `keys`, and their text as typed: Hydra would parse quotes and `${`."""
    pairs = [argument.partition("=") for argument in argv]
    lifted = {key: text for key, sign, text in pairs if key in keys and sign}
    return ["".join(pair) for pair in pairs if pair[0] not in lifted], lifted


def quoted(argument: str) -> str:
    """`key='value'` where the value is a path that exists: Hydra would parse `run=outputs/sweeps/dims=64,heads=2`."""
    key, sign, value = argument.partition("=")
    if not sign or re.fullmatch(r"[\w./-]*", value, re.ASCII) or not os.path.exists(os.path.expanduser(value)):
        return argument
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{escaped}'"


def door(verb: str, main: Callable[..., Any]) -> None:
    """Composes conf/<verb>.yaml with argv, checks it, and calls `main(config)`; training also gets the overrides."""
    words, lifted = lift(sys.argv[1:], VERBATIM.get(verb, ()))
    sys.argv[1:] = map(quoted, words)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and we say it in one line
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a log can be followed while it grows
    register()

    def task(node: DictConfig) -> Any:
        hydra_config = HydraConfig.get()
        if hydra_config.mode == RunMode.MULTIRUN:
            from nanolm.sweep.launch import run_job

            return run_job(node, train)
        try:
            config: Any = OmegaConf.to_object(node)
            config = with_homes(replace(config, **lifted))
            if verb == "train":
                return main(config, overrides=list(hydra_config.overrides.task))
            return main(config)
        except (NanolmError, OSError) as error:  # here, because Hydra would print a line of its own first
            complain(verb, error)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            extra = f"pip install -e '.[{EXTRAS[error.name]}]'"
            complain(verb, NanolmError(f"needs the package {error.name}, which is not installed: {extra}"))

    multirun = {"-m", "--multirun"} & set(sys.argv)
    if multirun and verb != "train":
        complain(verb, NanolmError("-m: only train.py sweeps"))
    run = hydra.main(version_base="1.3", config_path=CONF, config_name=verb)(task)
    try:
        if multirun:
            from nanolm.sweep.launch import guarded

            guarded(run)
        else:
            check_options(sys.argv[1:])
            run()
    except (hydra.errors.HydraException, OmegaConfBaseException, NanolmError) as error:
        complain(verb, error)
    except KeyboardInterrupt:
        print(f"{verb}.py: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def with_homes(config: Any) -> Any:
    """The config with `~` in every key that names a file or folder read as the home folder."""
    changed: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changed[field.name] = with_homes(value)
        elif field.metadata.get("path") and isinstance(value, str):
            changed[field.name] = str(user_path(value))
        elif field.metadata.get("path") and isinstance(value, list):
            changed[field.name] = [str(user_path(one)) for one in value]
    return replace(config, **changed)


def check_options(argv: list[str]) -> None:
    """ConfigError for a group that is given a number, a truth value or a table: Hydra has no words for it."""
    for key, _, text in (argument.partition("=") for argument in argv):
        if Path(CONF, key).is_dir() and NO_OPTION.match(text):
            raise ConfigError(f"{key}={text}: must be a name; there are {choices(key)}")


def train(config: TrainConfig, **how: Any) -> float:
    """The training verb, under a name that a sweep's child processes can import."""
    from nanolm.training.train import train as run

    return run(config, **how)


def complain(verb: str, error: Exception) -> NoReturn:
    """Ends the process with status 1 and one line on stderr; of torchrun's processes the first one says it."""
    if os.environ.get("RANK", "0") == "0":
        print(f"{verb}.py: {one_line(error)}", file=sys.stderr)
    raise SystemExit(1)
