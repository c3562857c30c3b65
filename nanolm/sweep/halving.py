"""hydra/sweeper=halving: a sweep that stops its losers early, on any launcher.

In: overrides. Out: jobs given to the launcher, rung by rung, until every configuration has ended or been left behind.
What a job scored at a rung lies in its folder: the same command again goes on at the rung where it was.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from nanolm.errors import NanolmError
from nanolm.sweep.compose import composable, compose, show_values, swept_values, without_hydra
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import Job, finite
from nanolm.sweep.launch import job_folder
from nanolm.sweep.points import configurations, points
from nanolm.sweep.rule import Halving, Result, Rule


class SuccessiveHalving(Sweeper):
    """See conf/hydra/sweeper/halving.yaml for its knobs. `until` is what a job is told: the share to train to."""

    def __init__(
        self,
        rungs: Sequence[float],
        eta: float,
        confidence: Optional[float],
        extra: float,
        n_trials: Optional[int],
        seed: int,
        params: Optional[DictConfig],
        until: float,
    ) -> None:
        self.rule = Rule(list(rungs), eta, confidence, extra)
        self.n_trials, self.seed, self.params = n_trials, seed, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.context, self.settings = hydra_context, config
        self.jobs_launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Trains all jobs as far as the rule wants them."""
        folder = SweepFolder(self.settings.hydra.sweep.dir)
        jobs = composable(self.context, self.settings, self.jobs(arguments, folder), folder)
        nodes = [without_hydra(compose(self.context, self.settings, overrides)) for overrides in jobs]
        folders = [job_folder(folder, list(overrides), node) for overrides, node in zip(jobs, nodes, strict=True)]
        state = Halving(configurations(jobs), self.rule)
        for number, node in enumerate(nodes):
            folder.mark_begun(folders[number].name)
            for rung, share in enumerate(self.rule.shares):
                result = read_result(folders[number], share)
                if result and is_current(Job.read(folders[number]), node):
                    state.results[number, rung] = result
        launched = 0
        while due := state.due():
            self.say_rungs(state, due)
            folder.begin_round(len(due))
            words = [[*jobs[number], f"hydra.sweeper.until={self.rule.shares[rung]}"] for number, rung in due]
            self.jobs_launcher.launch(words, initial_job_idx=launched)
            launched += len(due)
            for number, rung in due:
                result = read_result(folders[number], self.rule.shares[rung])
                state.results[number, rung] = result or Result(math.inf)
        print(f"{state.spent():.0%} of the steps of all {len(jobs)} jobs have been trained", flush=True)

    def jobs(self, arguments: list[str], folder: SweepFolder) -> list[list[str]]:
        """The overrides of each job, once they have been shown."""
        words = [f"{key!s}={value!s}" for key, value in self.params.items()] + arguments
        overrides = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(words)
        values = swept_values(overrides)
        jobs = points(overrides, self.n_trials, self.seed)
        show_values(values, len(jobs))
        folder.begin_round(len(jobs))
        OmegaConf.save(self.settings, Path(folder.path, "multirun.yaml"))
        return jobs

    def say_rungs(self, state: Halving, due: Sequence[tuple[int, int]]) -> None:
        """`rung 2 of 3, to 33% of the plan: 6 of 16 configurations`."""
        for rung in sorted({rung for _, rung in due}):
            share, there = self.rule.shares[rung], len(state.contenders(rung))
            line = f"rung {rung + 1} of {len(self.rule.shares)}, to {share:.0%} of the plan"
            print(f"{line}: {there} of {len(state.configurations)} configurations", flush=True)


def is_current(job: Job, node: DictConfig) -> bool:
    """Whether the job was trained on the documents that its config names today."""
    from nanolm.corpus.corpus import load_corpus

    try:
        corpus = load_corpus(OmegaConf.to_object(node.data), Path(node.outputs) / "cache")  # type: ignore[arg-type]
    except NanolmError:  # they have gone: the job will say so
        return False
    return corpus.fingerprint == job.status.get("corpus")


def read_result(folder: Path, share: float) -> Result | None:
    """What the job in `folder` scored at `share` of its plan; None if it hasn't been there."""
    job = Job.read(folder)
    if share == 1:
        return Result(finite(job.status.get("val_bpb"))) if job.state == "finished" else None
    try:
        for rung in json.loads((folder / "rungs.json").read_text("utf-8")):
            if abs(rung["share"] - share) < 1e-6:
                return Result(finite(rung["val_bpb"]), rung["bits"], rung["bytes"])
    except (OSError, ValueError, LookupError, TypeError):  # damaged: it is scored again
        pass
    return None
