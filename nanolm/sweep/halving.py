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
from nanolm.sweep.local import SideBySide
from nanolm.sweep.points import configurations, points
from nanolm.sweep.rule import Halving, Result, Rule
from nanolm.text import counted


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
        self.note = SweepFolder(self.settings.hydra.sweep.dir)
        self.job_list = composable(self.context, self.settings, self.jobs(arguments), self.note)
        self.state, self.folders = Halving(configurations(self.job_list), self.rule), list[Path]()
        self.said: set[int] = set()  # the rungs that were announced
        for number, overrides in enumerate(self.job_list):
            self.recall(number, without_hydra(compose(self.context, self.settings, overrides)))
        ours = getattr(self.jobs_launcher, "work", None)  # behind the plugin's class
        if isinstance(ours, SideBySide):
            self.side_by_side(ours)
        else:
            self.rung_by_rung()
        share = f"{self.state.spent():.0%} of the steps of all {counted(len(self.job_list), 'job')}"
        print(f"{share} have been trained; a smaller hydra.sweeper.eta lets more go on", flush=True)

    def recall(self, number: int, node: DictConfig) -> None:
        """Reads what an earlier launch has found out about a job."""
        folder = job_folder(self.note, list(self.job_list[number]), node)
        self.folders.append(folder)
        self.note.mark_begun(folder.name)
        for rung, share in enumerate(self.rule.shares):
            result = read_result(folder, share)
            if result and is_current(Job.read(folder), node):
                self.state.results[number, rung] = result

    def rung_by_rung(self) -> None:
        """On a launcher that takes a list of jobs and returns when all have ended."""
        launched = 0
        while due := self.state.due():
            self.say_rungs(due)
            self.note.begin_round(len(due))
            self.jobs_launcher.launch([self.words(*one) for one in due], initial_job_idx=launched)
            launched += len(due)
            for one in due:
                self.record(*one)

    def side_by_side(self, launcher: SideBySide) -> None:
        """On our own launcher, which asks for the next job when one has ended: what is certain goes on at once."""
        started: dict[tuple[str, ...], tuple[int, int]] = {}  # by their overrides

        def take() -> Sequence[str] | None:
            due = [one for one in self.state.due() if one not in started.values()]
            if not due:
                return None
            self.say_rungs(due[:1])
            self.note.count(len(started) + len(due))
            words = self.words(*due[0])
            started[tuple(words)] = due[0]
            return words

        def done(words: Sequence[str]) -> None:
            self.record(*started[tuple(words)])

        launcher.choose_split(self.job_list)
        self.note.begin_round(0)
        launcher.work(take, done)

    def words(self, number: int, rung: int) -> list[str]:
        """The overrides of a job on its way to a rung."""
        return [*self.job_list[number], f"hydra.sweeper.until={self.rule.shares[rung]}"]

    def record(self, number: int, rung: int) -> None:
        """Notes how a job that has ended did; one without a score there counts as the worst."""
        result = read_result(self.folders[number], self.rule.shares[rung])
        self.state.results[number, rung] = result or Result(math.inf)

    def jobs(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each job, once they have been shown."""
        words = [f"{key!s}={value!s}" for key, value in self.params.items()] + arguments
        overrides = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(words)
        values = swept_values(overrides)
        jobs = points(overrides, self.n_trials, self.seed)
        show_values(values, len(jobs))
        self.note.begin_round(len(jobs))
        OmegaConf.save(self.settings, Path(self.note.path, "multirun.yaml"))
        return jobs

    def say_rungs(self, due: Sequence[tuple[int, int]]) -> None:
        """`rung 2 of 3, to 33% of the plan`, before its first job."""
        for rung in sorted({rung for _, rung in due} - self.said):
            self.said.add(rung)
            share = self.rule.shares[rung]
            print(f"rung {rung + 1} of {len(self.rule.shares)}, to {share:.0%} of the plan", flush=True)


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
                return Result(finite(rung["val_bpb"]), rung["bits"], rung["bytes"], rung["step"] / rung["of"])
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):  # damaged: it is scored again
        pass
    return None
