"""What happens as a sweep begins, however it was switched on: its folder, its lock, its name, its guard.

In: Hydra's config of a multirun. Out: sweep.json, which its jobs (on any machine) and compare.py read.
"""

import os
import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from nanolm.errors import NanolmError
from nanolm.files import user_path
from nanolm.sweep import guard
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import label, last_part

# How a sweep is run, not what is swept: the same jobs with another launcher or sweeper are the same sweep
NOT_SWEPT = ("-", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.mode")


def swept_keys(overrides: list[str]) -> list[str]:
    """The keys that were given more than one value."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return sorted({override.get_key_element().lstrip("+~") for override in parsed if override.is_sweep_override()})


def sweep_name() -> str:
    """`dims,heads-1f3a9c07`: of the command, so that the same one goes on with its sweep; however it is launched."""
    words = sorted(
        word.replace("hydra.sweeper.params.", "")
        for word in sys.argv[1:]
        if "=" in word and (word.startswith("hydra.sweeper.params.") or not word.startswith(NOT_SWEPT))
    )
    return label([*map(last_part, swept_keys(words))] or ["sweep"], words)


# Resolved where the command was typed, and known to its jobs by OmegaConf's cache, as Hydra's own ${now:}
OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)
OmegaConf.register_new_resolver("user_path", lambda text: str(user_path(text)), replace=True)


class Sweep(Callback):
    """Hydra's callback that opens the sweep's folder."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Ends the process with one line where the sweep can't begin: Hydra turns a callback's errors into warnings."""
        try:
            guard.lead(begin_sweep(config), follow="submitit_folder" in config.hydra.launcher)
        except (NanolmError, OSError) as error:
            print(f"train.py: {error}", file=sys.stderr)
            raise SystemExit(1) from None


def begin_sweep(config: DictConfig) -> SweepFolder:
    """The folder of the sweep that `config` describes, taken for this process; NanolmError where that can't be."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise NanolmError("-m: torchrun's processes work on one run; leave out -m, or torchrun")
    sweeper = config.hydra.sweeper
    swept = {*map(str, sweeper.get("params") or {}), *swept_keys(list(config.hydra.overrides.task))}
    if "sampler" in sweeper:  # Optuna's
        if not swept:
            mend = "take sweep=search, or 'optim.lr=interval(1e-3,1e-2)'"
            raise NanolmError(f"hydra/sweeper=optuna: nothing to search; {mend}")
        fix_seed(sweeper.sampler)
    folder = SweepFolder(config.hydra.sweep.dir)
    folder.begin(sorted(swept))
    return folder


def fix_seed(sampler: DictConfig) -> None:
    """Gives a sampler that draws a seed, unless it has one: the same trials again, so that a search goes on."""
    if "seed" in sampler and sampler.seed is None:
        with open_dict(sampler):
            sampler.seed = 1
