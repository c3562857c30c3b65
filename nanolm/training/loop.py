"""The loop: steps, rows of figures, evaluations, checkpoints, until the plan is fulfilled or somebody asks to stop.

In: a Session. Out: the files of its run folder. After any kill the next session goes on from the last checkpoint.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from nanolm.errors import NanolmError
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights
from nanolm.scoring.score import Score, encoded_nats, score_nats
from nanolm.scoring.speller import spelling_bits
from nanolm.tracking.base import Tracker
from nanolm.training.checkpoint import save_checkpoint
from nanolm.training.display import SILENCE, Display
from nanolm.training.distributed import add_up, connected, from_first, largest, rank, world_size
from nanolm.training.keep import keep_weights
from nanolm.training.metrics import Metrics
from nanolm.training.output import MOMENT, announced
from nanolm.training.pace import Pace
from nanolm.training.plan import rung_step, step_batches, steps_at
from nanolm.training.progress import Progress
from nanolm.training.setup import Average, Setup
from nanolm.training.step import Diverged, Meter, learning_rate, take_step
from nanolm.training.stop import Stop, StopNow


@dataclass
class Outlets:
    """Where rows of figures go."""

    metrics: Metrics
    tracker: Tracker
    display: Display

    def add(self, row: dict[str, float]) -> None:
        """One more row."""
        self.metrics.add(row)
        self.tracker.log(row)
        self.display.show(row)


@dataclass
class Session:
    """One process at work on one run."""

    setup: Setup
    run: Run
    share: float  # of the plan, after which it ends: that of a rung, or 1
    progress: Progress
    stop: Stop
    outlets: Outlets | None  # of several processes only the first one writes
    judged: Average | None = None  # of the weights on the way to a rung
    best_val: Score | None = None  # of the best weights, where this session has found them
    meter: Meter = field(default_factory=Meter)
    saved: float = field(default_factory=time.perf_counter)  # when, and
    saved_step: int = -1
    row: tuple[int, float] = (0, 0.0)  # tokens and seconds of training at the last row of this session

    @property
    def steps(self) -> int:
        """Of the whole run, as it is planned by now."""
        return steps_at(self.run.manifest["plan"], self.progress.step)

    @property
    def until(self) -> int:
        """The step to end at."""
        return rung_step(self.share, self.steps)


def fit(session: Session) -> None:
    """Trains to the end of the plan, or to a rung, which is then judged by the average of the last weights.

    Raises StopNow, with everything saved, where a signal asks for it, and Diverged with the last good state saved.
    """
    progress, stop = session.progress, session.stop
    session.row = (progress.tokens, progress.training)
    try:
        if progress.logged < progress.step and row_due(session):  # stopped in an evaluation
            record(session)
        keep(session)
        upcoming, pace = step_batches(session.setup, progress.step), Pace(session.run.manifest["plan"], progress)
        while not (fulfilled(session) or progress.step >= session.until):
            with timed(progress, training=True):
                take_step(session.setup, next(upcoming), progress, session.steps, session.meter)
                if session.setup.average:
                    session.setup.average.update_parameters(session.setup.model)
                elif session.share < 1 and progress.step > session.until // 2:
                    session.judged = session.judged or Average(session.setup.model)
                    session.judged.update_parameters(session.setup.model)
            if pace.budget:
                keep_pace(session, pace)
            keep(session)
            if row_due(session):
                record(session)
            with connected():
                asked = largest(stop.signal or 0)  # all processes stop after the same step
            if asked:
                stop.signal = asked
                raise StopNow
            if time.perf_counter() - session.saved > session.setup.config.checkpoint_seconds:
                save(session)
    except (StopNow, Diverged):
        save(session)
        raise
    save(session)
    session.setup.average = session.judged or session.setup.average


def keep_pace(session: Session, pace: Pace) -> None:
    """Changes the plan where a budget in minutes would be missed by far."""
    progress, before = session.progress, session.steps
    with connected():
        due = largest(int(rank() == 0 and pace.due(progress)))
    if not due:
        return
    with timed(progress, training=True):  # a GPU has worked until here
        session.meter.read(progress)
    steps = from_first(pace.look(progress))
    if steps == before:
        return
    session.run.manifest["plan"]["changes"].append([progress.step, steps])
    if session.outlets:
        session.run.list_files()
        session.run.update_status(steps=steps)
        session.outlets.display.replan(steps, "slower" if steps < before else "faster")


def fulfilled(session: Session) -> bool:
    """Whether the plan is fulfilled, or there was no gain for too long."""
    patience = session.setup.config.patience
    return session.progress.step >= session.steps or (patience is not None and session.progress.waited >= patience)


def evaluation_due(session: Session) -> bool:
    """At the end, and every `eval_every` steps or each epoch."""
    step, every = session.progress.step, session.setup.config.eval_every or session.setup.steps_per_epoch
    return step >= session.steps or step % every == 0


def row_due(session: Session) -> bool:
    """Every `log_every` steps, and at evaluations."""
    return session.progress.step % session.setup.config.log_every == 0 or evaluation_due(session)


def record(session: Session) -> None:
    """Writes the row of this step everywhere, evaluated if it is time, and keeps the weights if they are the best."""
    progress, setup = session.progress, session.setup
    with timed(progress, training=True):  # a GPU has worked until here
        session.meter.read(progress)
    val = score_split(session, "val") if evaluation_due(session) else None
    tokens, seconds = progress.tokens - session.row[0], progress.training - session.row[1]
    row: dict[str, float] = {
        "step": progress.step,
        "epoch": progress.step / setup.steps_per_epoch,
        "tokens": progress.tokens,
        "lr": learning_rate(setup, progress.step - 1, session.steps),
        "train_loss": progress.nats / progress.nats_tokens if progress.nats_tokens else math.nan,
        "grad_norm": progress.norm,
        "seconds": progress.seconds,
        "tokens_per_s": tokens / seconds if seconds else math.nan,
    }
    if val:
        row |= {"val_loss": val.loss, "val_ppl": val.perplexity, "val_bpb": val.bpb}
    if session.outlets:
        session.outlets.add(row)
    progress.logged, progress.nats, progress.nats_tokens = progress.step, 0.0, 0
    session.row = (progress.tokens, progress.training)
    if val:
        keep_best(session, row, val)


def keep_best(session: Session, row: dict[str, float], val: Score) -> None:
    """Keeps the weights where they are the best so far. The checkpoint comes first: `mend_best` relies on it."""
    progress = session.progress
    if progress.best and not row["val_bpb"] < progress.best["val_bpb"]:
        progress.waited += 1
        return
    progress.best = {key: row[key] for key in ("step", "epoch", "val_loss", "val_ppl", "val_bpb")}
    progress.waited, session.best_val = 0, val
    save(session)
    if session.outlets:
        write_weights(session.run.folder / BEST, session.setup.evaluated_model.state_dict(), progress.best)
        session.run.update_status(**progress.best)


def keep(session: Session) -> None:
    """Keeps the weights of this step where `keep_every` asks for it."""
    if session.outlets and session.setup.config.keep_every is not None:
        with timed(session.progress):
            keep_weights(session.run, session.setup, session.progress.step, session.steps)


def score_split(session: Session, split: str) -> Score:
    """The score of a whole split under the current weights; a signal ends it at once, but for several ranks."""
    setup = session.setup
    after = SILENCE if split == "val" else MOMENT  # which comes again and again
    eager = torch.compiler.set_stance("force_eager") if session.run.manifest["plan"]["compile"] else nullcontext()
    at_once = session.stop.at_once() if world_size() == 1 else nullcontext()  # several ranks stop at the same place
    with announced(f"scoring the {split} documents", after), eager, at_once, timed(session.progress):
        spelling = spelling_bits(setup.corpus, split, setup.tokenizer, setup.cache)
        how = (setup.evaluated_model, setup.encoded[split], setup.context, setup.device)
        nats = encoded_nats(*how, rank=rank(), world_size=world_size())
        with connected():
            add_up(torch.from_numpy(nats))
        result = score_nats(nats, setup.encoded[split], setup.corpus.nbytes(split), spelling)
    if not math.isfinite(result.bpb):
        raise NanolmError(f"the {split} loss is {result.loss} after step {session.progress.step}: lower optim.lr")
    return result


def save(session: Session) -> None:
    """Writes a checkpoint, unless this step has one; raises Diverged after it."""
    progress, setup = session.progress, session.setup
    diverged = None
    try:
        with timed(progress, training=True):  # a GPU has worked until here
            session.meter.read(progress)
    except Diverged as error:
        diverged = error
    if session.outlets and session.saved_step != progress.step:
        progress.metrics = session.outlets.metrics.saved()
        with timed(progress):
            save_checkpoint(session.run.folder, setup, progress)
        session.saved_step = progress.step
    session.saved = time.perf_counter()
    if diverged:
        raise diverged


@contextmanager
def timed(progress: Progress, training: bool = False) -> Iterator[None]:
    """Adds the time inside to the run's seconds, and to those of its steps where it is `training`."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        passed = time.perf_counter() - begun
        progress.seconds += passed
        if training:
            progress.training += passed
