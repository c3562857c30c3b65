"""Hydra's basic sweeper as a user would want it: says what will run, and no job that can't be composed stops others.

In: overrides. Out: jobs given to the launcher, in batches of `max_batch_size` (None: all at once).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from nanolm.sweep.compose import composable, show_values, swept_values
from nanolm.sweep.folder import SweepFolder


class Grid(BasicSweeper):
    """Every combination of what is swept."""

    def sweep(self, arguments: list[str]) -> list[Sequence[Any]]:
        """Launches them; returns what the launcher does."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(self._parse_config() + arguments)
        values = swept_values(overrides)
        batches = self.split_arguments(overrides, self.max_batch_size)
        total = sum(map(len, batches))
        show_values(values, total)
        folder = SweepFolder(self.config.hydra.sweep.dir)
        folder.begin_round(total)
        OmegaConf.save(self.config, Path(folder.path, "multirun.yaml"))
        returns: list[Sequence[Any]] = []
        for batch in batches:
            jobs = composable(self.hydra_context, self.config, batch, folder)
            if jobs:
                returns.append(self.launcher.launch(jobs, initial_job_idx=sum(map(len, returns))))
        return returns
