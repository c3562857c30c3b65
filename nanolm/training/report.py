"""The end of a run: the test split scored once under the best weights, curves, samples, a table, what to try next.

In: a session whose plan is fulfilled. Out: the last files of the run folder, its status `finished`.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nanolm import plots
from nanolm.errors import NanolmError
from nanolm.files import write_atomic
from nanolm.hardware import give_back_memory, peak_memory
from nanolm.runs.run import BEST, PREVIOUS
from nanolm.runs.weights import read_weights
from nanolm.scoring.floor import floor_bpb
from nanolm.scoring.score import Score
from nanolm.text import escape_controls
from nanolm.training.display import duration, epochs
from nanolm.training.distributed import wait_for_all
from nanolm.training.loop import Outlets, Session, score_split
from nanolm.training.metrics import COLUMNS
from nanolm.training.output import announced

CURVES = ("loss.png", "perplexity.png", "bits_per_byte.png")
# Final once the run is finished
LATE_FILES = (*CURVES, "metrics.csv", "samples.txt", "status.json", "test_bits.csv", "val_bits.csv")


def final_scores(session: Session) -> tuple[Score, Score | None]:
    """The scores of val and test under the best weights, which the model has from here on; None without a test."""
    wait_for_all()  # the first has written them, and nobody reads the weights of the last step any more
    setup = session.setup
    setup.average = setup.optimizer = None
    give_back_memory()
    setup.model.load_state_dict(read_weights(session.run.folder / BEST)[0])
    val = session.best_val or score_split(session, "val")
    return val, score_split(session, "test") if len(setup.encoded["test"]) else None


def finish(session: Session, outlets: Outlets, console: Console) -> float:
    """Writes and prints everything that is left; returns the best val bits per byte."""
    setup, run, progress = session.setup, session.run, session.progress
    figures: dict[str, Any] = dict(progress.best or {})
    figures["best_epoch"] = figures.pop("epoch")
    val, test = final_scores(session)
    write_bits(session, "val", val)
    if test:
        write_bits(session, "test", test)
        figures |= {"test_bpb": test.bpb, "test_loss": test.loss, "test_ppl": test.perplexity}
        figures["test_unk_rate"] = test.unk_rate
    with session.stop.at_once(), announced("computing the floor"):
        figures |= {f"{split}_floor": floor_bpb(setup.config.data, setup.corpus, split) for split in ("val", "test")}
    figures |= {"step": progress.step, "epochs": progress.step / setup.steps_per_epoch, "tokens": progress.tokens}
    figures |= {"seconds": progress.seconds, "tokens_per_s": progress.tokens / progress.training}
    with announced("drawing the curves"):
        draw_curves(session, outlets, figures["val_floor"])
    samples = write_samples(session)
    figures["memory_mb"] = peak_memory(setup.device)
    run.list_files(*(name for name in LATE_FILES if (run.folder / name).exists()))
    run.update_status(state="finished", **figures)
    (run.folder / PREVIOUS).unlink(missing_ok=True)
    images = {name.removesuffix(".png"): run.folder / name for name in CURVES if (run.folder / name).exists()}
    outlets.tracker.report(figures | {"state": "finished"}, samples, images)
    print_results(console, session, figures, samples)
    return float(figures["val_bpb"])


def write_bits(session: Session, split: str, score: Score) -> None:
    """test_bits.csv and val_bits.csv: what each document costs under the best weights; compare.py resamples them."""
    rows = zip(score.bits.tolist(), score.bytes.tolist(), strict=True)
    lines = [f"{document},{bits!r},{size}\n" for document, (bits, size) in enumerate(rows)]
    write_atomic(session.run.folder / f"{split}_bits.csv", "document,bits,bytes\n" + "".join(lines))


def draw_curves(session: Session, outlets: Outlets, floor: float | None) -> None:
    """The original's two plots, loss and perplexity, and bits per byte."""
    folder = session.run.folder
    kept = outlets.metrics.kept()
    rows = {column: np.array([row.get(column, np.nan) for row in kept]) for column in COLUMNS}
    val = np.isfinite(rows["val_loss"])
    train, measured = (rows["epoch"], rows["train_loss"]), (rows["epoch"][val], rows["val_loss"][val])
    losses = {"train": train, "val": measured}
    perplexities = {name: (x, np.exp(np.minimum(y, 700))) for name, (x, y) in losses.items()}
    bits = {"val": (rows["epoch"][val], rows["val_bpb"][val])}
    plots.curves(folder / "loss.png", folder.name, ("epoch", "loss (nats per token)"), losses)
    plots.curves(folder / "perplexity.png", folder.name, ("epoch", "perplexity (per token)"), perplexities)
    plots.curves(folder / "bits_per_byte.png", folder.name, ("epoch", "bits per byte on val"), bits, floor)


def write_samples(session: Session) -> list[tuple[str, str]]:
    """samples.txt: (prompt, text) of a few generated texts; none, with a word, where a prompt can't be continued."""
    config = session.setup.config
    prompts = [prompt for prompt in config.prompts for _ in range(config.samples)]
    if not prompts:
        return []
    from nanolm.generator import load  # here: the first step need not wait for it

    decode = dataclasses.replace(config.decode, num_return_sequences=1)
    try:
        with session.stop.at_once(), announced("writing samples"):
            generator = load(session.run.folder, device=str(session.setup.device))
            texts = generator.generate(prompts, decode=decode, seed=config.seed)
    except NanolmError as error:
        print(f"no samples: {error}", file=sys.stderr)
        return []
    samples = list(dict.fromkeys(zip(prompts, texts, strict=True)))  # greedy ones are all the same
    parts = [(f"prompt: {prompt}\n" if prompt else "") + text for prompt, text in samples]
    write_atomic(session.run.folder / "samples.txt", "\n\n".join(parts) + "\n")
    return samples


def print_results(console: Console, session: Session, figures: dict[str, Any], samples: list[tuple[str, str]]) -> None:
    """Prints the table of results, the samples and the next commands."""
    folder, kept = session.run.folder, list(session.run.kept().values())
    run, resume = session.run.word("run"), session.run.word("resume")
    titles = ("", "bits per byte", "floor", "above it", "perplexity*")
    table = Table(*titles, title=escape(escape_controls(f"{folder}")), title_justify="left")
    for split in ("val", "test"):
        bpb, floor = (figures.get(f"{split}_{name}") for name in ("bpb", "floor"))
        if bpb:
            above = (f"{floor:.4f}", f"{bpb / floor - 1:.1%}") if floor else ("unknown", "")
            table.add_row(split, f"{bpb:.4f}", *above, f"{figures[f'{split}_ppl']:.2f}")
    console.print(table)
    lines = [
        f"* per token: compares with the same tokenizer only; trained in {session.setup.precision}, scored in fp32",
        f"best after {figures['best_epoch']:.3g} of {epochs(figures['epochs'])}; {duration(figures['seconds'])}, "
        f"{figures['tokens_per_s']:,.0f} tokens/s, {figures['memory_mb']:,.0f} MB of memory at most",
        "curves: " + ", ".join(str(folder / name) for name in CURVES),
        *([f"kept: the weights of {len(kept)} steps, {kept[0].stem} to {kept[-1].stem}"] if kept else []),
        *(f"\n{f'[{prompt}] ' if prompt else ''}{text}" for prompt, text in samples),
        "\nnext:",
        f'  python generate.py {run} prompt="{" ".join(samples[0][1].split()[:2]) if samples else ""}"',
        f"  python evaluate.py {run} data=files data.path=mine.txt",
        f"  python train.py {resume} {session.setup.config.larger_budget}",
        *([f'  python look.py {run} prompt="..."    which heads form when'] if kept else []),
    ]
    print(*map(escape_controls, lines), sep="\n")
