"""Going on: with a run where it stopped (`resume`), or from its weights on other data (`init`).

In: the composed config and the words typed by the user. Out: the config that counts, or a ConfigError naming the key.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanolm.config import plain
from nanolm.errors import ConfigError
from nanolm.runs.find import find_run
from nanolm.runs.run import Run, check_fetches_nothing
from nanolm.tracking.base import TrackingConfig
from nanolm.training.config import TrainConfig, train_config

BUDGET = ("epochs", "minutes", "tokens")
# what older optimizers did not have, as they were
LACKED: dict[str, dict[str, Any]] = {
    "adamw": {"depth_scaling": False, "embedding_decay": 0.0},
    "muon": {"depth_scaling": False, "embedding_decay": 0.0, "row_beta2": None},
}
CHANGEABLE = (*BUDGET, "tracking", "device", "data")  # of the data only where it lies; its contents are compared


def typed_keys(overrides: Sequence[str]) -> list[str]:
    """`+model.dims=3` -> `model.dims`, of everything typed."""
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


MOVED = ("data.path", "data.train_path", "data.val_path", "data.test_path")  # of the same text, which lies elsewhere


def resumed(config: TrainConfig, overrides: Sequence[str]) -> tuple[Run, TrainConfig]:
    """The run that `config.resume` names and its own config, with the budget, tracking and device typed anew."""
    run = Run.open(find_run(str(config.resume), config.outputs))
    keys = typed_keys(overrides)
    own = train_config(_as_begun(run.config))
    for key in keys:
        if not _may_change(key, config, own):
            mend = f"only {', '.join(BUDGET)}, tracking, device and data.path can be changed"
            mend += f"; leave it out, or start a new run with init={config.resume}"
            raise ConfigError(f"{key}: a resumed run keeps its own; {mend}")
    if budget := {name: getattr(config, name) for name in BUDGET if name in keys}:
        own = replace(own, **{"minutes": None, "tokens": None, **budget})
    if not run.folder.resolve().is_relative_to(Path(own.outputs).resolve()):  # moved here, or a stranger's
        own = replace(own, outputs=config.outputs)
    for key in keys:
        if key in MOVED:
            name = key.removeprefix("data.")
            moved: dict[str, Any] = {name: getattr(config.data, name)}
            own = replace(own, data=replace(own.data, **moved))
        elif key in ("device", "outputs"):
            own = replace(own, **{key: getattr(config, key)})
    if not set(keys) & set(MOVED):
        check_fetches_nothing(run.folder, own.data)
    return run, replace(own, tracking=resumed_tracking(own.tracking, config.tracking, keys))


def _as_begun(saved: dict[str, Any]) -> dict[str, Any]:
    """The config of a run with what its time did not have yet, as it was then."""
    optim = saved.get("optim")
    if not isinstance(optim, dict):
        return saved
    return saved | {"optim": LACKED.get(str(optim.get("name")), {}) | optim}


def resumed_tracking(own: TrackingConfig, typed: TrackingConfig, keys: Sequence[str]) -> TrackingConfig:
    """The run's own tracking with what was typed; another where it would upload and that isn't asked for again."""
    if "tracking" in keys:
        return typed
    if own.uploads and not typed.uploads:
        again = f"tracking={own.name} and the project"
        print(f"tracking={typed.name}: to upload the run again, give {again} again", file=sys.stderr)
        own = typed
    for key in keys:
        if key.startswith("tracking.") and own.name != typed.name:
            raise ConfigError(f"{key}: the run has tracking={own.name}; give tracking={typed.name} as well")
        if key.startswith("tracking."):
            name = key.removeprefix("tracking.")
            own = replace(own, **{name: getattr(typed, name)})
    return own


def _may_change(key: str, config: TrainConfig, own: TrainConfig) -> bool:
    if _root(key) == "data":  # data=files is typed for data.path=NEW to be understood
        return key in MOVED or (key == "data" and config.data.name == own.data.name)
    return _root(key) in (*CHANGEABLE, "outputs", "resume")


def is_complete(run: Run, config: TrainConfig) -> bool:
    """Whether the run is finished and `config`, which is its own or `resumed` from it, asks for no other budget."""
    before = train_config(run.config)
    return run.finished() and all(getattr(before, name) == getattr(config, name) for name in BUDGET)


def initialised(config: TrainConfig, overrides: Sequence[str]) -> tuple[Run, TrainConfig]:
    """The run that `config.init` names, and `config` with that run's model and tokenizer."""
    run = Run.open(find_run(str(config.init), config.outputs))
    own = train_config(run.config)
    for key in typed_keys(overrides):
        if _root(key) in ("model", "tokenizer") and _at(config, key) != _at(own, key):
            raise ConfigError(f"{key}: init={config.init} brings its own {_root(key)}; leave {key} out")
    return run, replace(config, init=str(run.folder.resolve()), model=own.model, tokenizer=own.tokenizer)


def _root(key: str) -> str:
    return re.split(r"[.@/]", key)[0]


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name, None)
    if isinstance(config, type(None) | int | float | str):
        return config
    return plain(config) | {"context": None, "spelling": None}  # which the data may have chosen
