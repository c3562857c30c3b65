"""What is noted when a sweep begins: its folder, its lock, what is swept; and its name.

In: Hydra's config of a multirun. Out: sweep.json, which its jobs (on any machine) and compare.py read.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from nanolm.files import write_json
from nanolm.locks import try_lock
from nanolm.sweep.jobs import BEGUN, NOTE, last_part, named

STOP = ".stop"  # a file in the sweep's folder that asks all its jobs, wherever they run, to save and stop


current: tuple[Path, FileLock] | None = None  # this process's sweep, once Hydra has begun it, and its lock


def swept_keys(overrides: list[str]) -> list[str]:
    """The keys that were given more than one value."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return sorted({override.get_key_element().lstrip("+~") for override in parsed if override.is_sweep_override()})


def sweep_name() -> str:
    """`dims,heads-1f3a9c07`: of the command, so that the same one goes on with its sweep; however it is launched."""
    typed = sorted(
        word for word in sys.argv[1:] if "=" in word and not word.startswith(("-", "hydra/launcher", "hydra.launcher"))
    )
    return named([*map(last_part, swept_keys(typed))] or ["sweep"], typed)


# Resolved where the command was typed, and known to its jobs by OmegaConf's cache, as Hydra's own ${now:}
OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)


class Sweep(Callback):
    """Hydra's callback that notes what is swept; read by the jobs (on any machine) and by compare.py."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global current
        sweeper, folder = config.hydra.sweeper, Path(config.hydra.sweep.dir)
        swept = {*map(str, sweeper.get("params") or {}), *swept_keys(list(config.hydra.overrides.task))}
        if "sampler" in sweeper:  # Optuna's
            if not swept:
                _refuse("hydra/sweeper=optuna: nothing to search; take sweep=search, or 'optim.lr=interval(1e-3,1e-2)'")
            with open_dict(sweeper):  # the same trials again, so that a search goes on
                sweeper.sampler.seed = 1 if sweeper.sampler.get("seed") is None else sweeper.sampler.seed
        folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(folder / ".lock")  # held while this process lives
        if lock is None:
            _refuse(f"{folder}: another process is at this sweep; wait for its end or stop it")
        (folder / STOP).unlink(missing_ok=True)
        shutil.rmtree(folder / BEGUN, ignore_errors=True)
        (folder / BEGUN).mkdir()
        write_json(folder / NOTE, {"swept": sorted(swept), "command": sys.argv, "started": time.time()})
        current = folder, lock


def _refuse(line: str) -> NoReturn:
    """Ends the sweep before it begins; Hydra would turn an exception of its callback into a warning."""
    print(f"train.py: {line}", file=sys.stderr)
    raise SystemExit(1)
