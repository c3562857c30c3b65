"""The door that each root script opens: from the words of a command to a checked dataclass, and on to the verb.

In: argv. Out: what the verb does; a mistake of the user's becomes one line and exit status 1. Imports nothing heavy,
so that `--cfg job` answers at once.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nanolm.cli.arguments import HELP, LOOKS, SWEEPS, elsewhere, ready
from nanolm.cli.configs import CONF, register
from nanolm.cli.help import help_text
from nanolm.errors import ConfigError, NanolmError, missing_key, one_line, warn_in_one_line
from nanolm.files import expand_home, user_path
from nanolm.training.config import TrainConfig
from nanolm.training.output import lasting_output

# What Hydra must not parse; `sweep` is also a folder of conf/
VERBATIM = {"generate": ("prompt",), "attend": ("prompt",), "look": ("prompt",), "compare": ("sweep", "runs")}
FAULTS = (NanolmError, OmegaConfBaseException, OSError)  # of the user's, or of the machine: told in one line
# Packages that not everybody installs: the extra of pyproject.toml that brings each
EXTRAS = {"gradio": "app", "gguf": "gguf", "onnxscript": "onnx"}


def door(verb: str, main: Callable[..., Any]) -> None:
    """Composes conf/<verb>.yaml with argv, checks it, and calls `main(config)`; see `call` for what training gets."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and we say it in one line
    warn_in_one_line(verb)
    # a log can be followed while it grows; a pipe of Windows (cp1252) gets what it can't spell as an escape
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    register([verb])
    try:
        words, verbatim = lift(sys.argv[1:], VERBATIM.get(verb, ()))
        sys.argv[1:] = ready(verb, words)
        enter(verb, main, verbatim)
    except (hydra.errors.HydraException, OmegaConfBaseException, NanolmError) as error:
        complain(verb, error)
    except BrokenPipeError:
        end_unread()
    except KeyboardInterrupt:
        print(f"{verb}.py: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def lift(argv: list[str], keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """argv without the arguments that set `keys`, and their text as typed: Hydra would parse quotes and `${`."""
    pairs = [argument.partition("=") for argument in argv]
    lifted = {key: text for key, sign, text in pairs if key in keys and sign}
    return ["".join(pair) for pair in pairs if pair[0] not in lifted], lifted


def enter(verb: str, main: Callable[..., Any], verbatim: dict[str, str]) -> None:
    """Has Hydra read sys.argv and call the verb; or, with -m, launch a job for every combination of values."""

    def task(node: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from nanolm.sweep.launch import run_job

            with lasting_output():  # a job may print to the sweep's terminal
                return run_job(node, typed, train)
        try:
            return call(verb, main, typed(node, **verbatim))
        except BrokenPipeError:
            end_unread()
        except FAULTS as error:  # here, because Hydra would print a line of its own first
            complain(verb, error)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("nanolm"):
                raise
            place = f"'.[{EXTRAS[error.name]}]'" if error.name in EXTRAS else "."
            complain(verb, NanolmError(f"needs {error.name}, which is not installed here: pip install -e {place}"))

    looks = LOOKS.intersection(sys.argv)
    if HELP & looks:  # Hydra's own help copies every dataclass for every group: 0.7 s, for a list that is not shown
        sys.argv[1:] = [word for word in sys.argv[1:] if word not in (*HELP, *SWEEPS, "--resolve")]
        sys.argv.append("hydra.run.dir=.")  # or Hydra makes that folder
        task = show_help  # type: ignore[assignment]
    run = hydra.main(version_base="1.3", config_path=CONF, config_name=verb)(task)
    if verb == "train" and not looks:
        from nanolm.sweep.guard import guarded

        with lasting_output():  # a sweep goes on if nobody reads what it says
            guarded(run)
    else:
        run()


def show_help(node: DictConfig) -> None:
    """Prints what the composed config of a verb can be told."""
    try:
        print(help_text(node, HydraConfig.get().help))
    except BrokenPipeError:  # here, because Hydra would print a line of its own first
        end_unread()


def end_unread() -> NoReturn:
    """Ends the process as the pipe would whose reader has gone, as of `--help | head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
    raise SystemExit(128 + 13) from None


def call(verb: str, main: Callable[..., Any], config: Any) -> Any:
    """Calls the verb. Training and evaluation also get the overrides; training, with hydra.run.dir=DIR, its folder."""
    settings = HydraConfig.get()
    folder = None if settings.run.dir == "." else user_path(settings.run.dir)
    if verb == "train":
        return main(config, overrides=list(settings.overrides.task), folder=folder)
    if folder is not None:
        raise ConfigError(f"hydra.run.dir={folder}: only train.py makes a run's folder")
    if verb == "evaluate":
        return main(config, overrides=list(settings.overrides.task))
    return main(config)


def typed(node: DictConfig, **lifted: str) -> Any:
    """The dataclass of a composed config, `lifted` in it; NanolmError where a value is out of its range."""
    config: Any = OmegaConf.to_object(node)
    return with_homes(replace(config, **lifted))


def with_homes(config: Any) -> Any:
    """The config with `~` in every key that names a file or folder read as the home folder."""
    changed: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changed[field.name] = with_homes(value)
        elif field.metadata.get("path") and isinstance(value, str):
            changed[field.name] = expand_home(value)
        elif field.metadata.get("path") and isinstance(value, list):
            changed[field.name] = [expand_home(one) for one in value]
    return replace(config, **changed)


def train(config: TrainConfig, **how: Any) -> float:
    """The training verb, under a name that a sweep's child processes can import."""
    from nanolm.training.train import train as run

    return run(config, **how)


def complain(verb: str, error: Exception) -> NoReturn:
    """Ends the process with status 1 and one line on stderr; of torchrun's processes the first one says it."""
    line = one_line(error)
    if (key := missing_key(error)) and (hint := elsewhere(verb, key)):
        line = f"{key}: no such key; {hint}"
    if os.environ.get("RANK", "0") == "0":
        print(f"{verb}.py: {line}", file=sys.stderr)
    raise SystemExit(1)
