"""`train.py`'s verb: one run from its config to its end, or from where it stopped.

In: a TrainConfig and what the user typed. Out: the best val bits per byte, and a run folder. Only here are run folders
made. A failure or a stop leaves its word in status.json, and the last checkpoint.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nanolm.config import fill, plain
from nanolm.errors import DataError, RunError
from nanolm.files import write_json
from nanolm.runs.folders import new_folder
from nanolm.runs.run import BEST, LAST, Run, if_moved
from nanolm.runs.weights import read_weights, write_weights
from nanolm.scoring.speller import corpus_speller
from nanolm.sweep.folder import STOP
from nanolm.tracking.base import Tracker
from nanolm.training.checkpoint import load_checkpoint
from nanolm.training.config import TrainConfig
from nanolm.training.display import Display, show_setup
from nanolm.training.distributed import (
    from_first,
    process_group,
    rank,
    remember_run,
    remembered_run,
    wait_for_all,
)
from nanolm.training.ending import NO_MEMORY, ending, is_memory, refusal
from nanolm.training.keep import check_room, forget_after
from nanolm.training.loop import Outlets, Session, fit, fulfilled
from nanolm.training.metrics import Metrics
from nanolm.training.output import announced, lasting_output
from nanolm.training.plan import Plan, make_plan, steps_at
from nanolm.training.progress import Progress
from nanolm.training.records import environment, first_status, run_info
from nanolm.training.report import LATE_FILES, final_scores, finish
from nanolm.training.resume import CHANGEABLE, initialised, is_complete, resumed
from nanolm.training.rung import score_rung, stop_at_rung
from nanolm.training.setup import Setup, load_weights, set_up
from nanolm.training.step import Diverged
from nanolm.training.stop import Stop, StopNow


def train(config: TrainConfig, overrides: Sequence[str] = (), folder: Path | None = None, until: float = 1.0) -> float:
    """Trains the run of `config`, or goes on with `config.resume`; returns its best val bits per byte.

    overrides: what was typed, as in `model.dims=64`: says which keys a resumed run is asked to change. folder: of the
    new run; None: a new one under `config.outputs`. until: the share of the plan to stop at, to be resumed or left
    (`rung.py`); then the score there is returned. Raises NanolmError for a mistake, SystemExit with 128 + the number
    of a signal once everything is saved.
    """
    with lasting_output(), process_group(config.device):
        try:
            return train_to_end(config, overrides, folder, until)
        except OSError as error:
            raise RunError(refusal(error, Path(config.outputs))) from error
        except (MemoryError, RuntimeError) as error:
            if is_memory(error):
                raise RunError(NO_MEMORY) from error
            raise


def train_to_end(config: TrainConfig, overrides: Sequence[str], folder: Path | None, until: float) -> float:
    """As `train`, on every rank."""
    if restarted := remembered_run():
        config, overrides = replace(config, resume=restarted, init=None), ()
    if config.resume is None:
        run, setup = begin(config, overrides, folder)
        with held(run):
            return work(setup, run, Progress(), until)
    run, config = resumed(config, overrides)
    if is_complete(run, config):
        return say_complete(run, config)
    with held(run):
        setup, progress = restore(config, run)
        return work(setup, run, progress, until)


def held(run: Run) -> AbstractContextManager[None]:
    """Nobody else trains in the run's folder meanwhile; the first rank sees to that."""
    return run.hold() if rank() == 0 else nullcontext()


def say_complete(run: Run, config: TrainConfig) -> float:
    """Says that there is nothing to do, and how to go on; the run's best val bits per byte."""
    status = run.status()
    print(f"{run.folder}: is complete, {status['val_bpb']:.4f} bits per byte on val; nothing is done")
    print(f"a larger budget goes on with it, as in: python train.py {run.word('resume')} {config.larger_budget}")
    return float(status["val_bpb"])


def begin(config: TrainConfig, overrides: Sequence[str], folder: Path | None) -> tuple[Run, Setup]:
    """Everything before the first step of a new run, its folder included."""
    if folder is not None and Run.resumable(folder):
        mend = f"resume={folder} goes on with it, or choose another folder"
        raise RunError(f"{folder}: holds a run already; {mend}")
    source = None
    if config.init is not None:
        source, config = initialised(config, overrides)
    setup = set_up(config, source.tokenizer() if source else None)
    if source:
        load_weights(setup, source)
    wait_for_all()
    plan = make_plan(setup) | {"corpus": setup.corpus.fingerprint}
    check_room(setup, plan["steps"])
    if rank() > 0:
        return Run.open(from_first("")), setup
    writers = {
        "tokenizer.json": setup.tokenizer.save,
        "speller.json": corpus_speller(setup.corpus).save,
        "environment.json": lambda path: write_json(path, environment(setup)),
    }
    name = (setup.config.model.name, setup.config.tokenizer.name, setup.config.run_name)
    run = Run.create(folder or new_folder(Path(config.outputs), *name), plain(setup.config), plan, writers)
    remember_run(str(run.folder))
    from_first(str(run.folder.resolve()))
    return run, setup


def restore(config: TrainConfig, run: Run) -> tuple[Setup, Progress]:
    """A run's setup and progress as they were at its last checkpoint, or at its start where it has none yet."""
    where = f"{run.folder / 'manifest.json'}: plan"
    old = plain(fill(Plan, run.manifest["plan"], where))
    if any(len(change) != 2 for change in old["changes"]):
        raise RunError(f"{where}.changes={old['changes']}: must be pairs of steps")
    try:
        setup = set_up(config, run.tokenizer())
    except DataError as error:
        raise DataError(f"{error}{if_moved(config.data)}") from error
    if setup.corpus.fingerprint != old["corpus"]:
        mend = f"give data.path= of the text as it was, or start a new run with init={run.folder}"
        raise RunError(f"{run.folder}: its documents or their split have changed since; {mend}")
    plan = old | make_plan(setup, old)
    progress = load_checkpoint(run.folder, setup)
    if progress is None:
        if (run.folder / BEST).exists():
            raise RunError(f"{run.folder / LAST}: missing, so it can't go on; start a new run with init={run.folder}")
        print(f"{run.folder}: there is no checkpoint, so it starts at its beginning", file=sys.stderr)
        progress = Progress()
        if config.init is not None:
            load_weights(setup, Run.open(config.init))
    if plan["steps"] != old["steps"]:
        if progress.step >= plan["steps"]:
            raise RunError(
                f"{run.folder}: has had {progress.step} steps, {plan['steps']} are asked; give a larger budget"
            )
        progress.waited = 0
    check_room(setup, plan["steps"], progress.step)
    wait_for_all()  # what follows changes the folder, which all ranks have read now
    run.manifest |= {"plan": plan, "changed": {key: plain(setup.config)[key] for key in CHANGEABLE}}
    run.manifest["files"] = {name: sha for name, sha in run.manifest["files"].items() if name not in LATE_FILES}
    if rank() == 0:
        forget_after(run, progress.step)
        mend_best(setup, run, progress)
        remember_run(str(run.folder.resolve()))
    return setup, fill(Progress, from_first(plain(progress)), "progress")


def mend_best(setup: Setup, run: Run, progress: Progress) -> None:
    """A kill may have come between a checkpoint and the best weights: then the checkpoint's weights are those."""
    if progress.best is None:
        return
    problem = "they are not those of the checkpoint"
    try:
        if read_weights(run.folder / BEST)[1] == progress.best:
            return
    except RunError as error:
        problem = str(error)
    if progress.best["step"] == progress.step:
        write_weights(run.folder / BEST, setup.evaluated_model.state_dict(), progress.best)
    else:
        print(f"the best weights are sought anew from step {progress.step} on: {problem}", file=sys.stderr)
        progress.best = None


def work(setup: Setup, run: Run, progress: Progress, until: float = 1.0) -> float:
    """Trains and reports; whatever ends it is written into status.json. Ranks but the first write nothing."""
    steps = steps_at(run.manifest["plan"], progress.step)
    if rank() > 0:
        return follow(Session(setup, run, until, progress, Stop(), None))
    console = Console(highlight=False)
    show_setup(setup, steps, run.manifest["plan"]["compile"])
    write_json(run.folder / "status.json", first_status(setup, run, progress))
    metrics = Metrics(run.folder / "metrics.csv", progress.metrics)
    tracker = Tracker(setup.config.tracking, run_info(setup, run, until))
    for row in metrics.kept():  # a kill may have come before tracking had them
        tracker.log(row)
    outlets = Outlets(metrics, tracker, Display(console, steps, progress.step))
    status = 1
    try:
        with Stop(run.folder / STOP) as stop, ending(run, progress, stop):
            session = Session(setup, run, until, progress, stop, outlets)
            with outlets.display.live:
                fit(session)
            value = finish(session, outlets, console) if fulfilled(session) else stop_at_rung(session, outlets, until)
            status = 0
            return value
    finally:
        with suppress(OSError):  # of a full disk: said already
            metrics.file.close()
        with announced("waiting for W&B to finish"):
            tracker.close(status)


def follow(session: Session) -> float:
    """What every rank but the first does: its share of each step and evaluation; returns the best val bits per byte."""
    try:
        with session.stop:
            fit(session)
            if fulfilled(session):
                final_scores(session)
            else:
                score_rung(session)
    except StopNow:
        raise SystemExit(128 + (session.stop.signal or 0)) from None
    except Diverged:  # the first rank says it
        raise SystemExit(1) from None
    return float((session.progress.best or {}).get("val_bpb", math.nan))
