"""`make race`: nanolm on tiny Shakespeare, against nanoGPT's CPU recipe (plain_gpt.py) and its A100's result.

In: the text's file (.gz or not), the word `shakespeare` or `hour` for the second race, then words for every train.py,
as `model.dims=192`. Out: a Markdown table: seconds on the wall from command to result, and nats a character on the
whole last tenth of the text, by the same functions for all: every character once, in windows of nanoGPT's block side by
side (so many are seen at most) and of the model's own context that overlap by half; and nanoGPT's estimate, random
windows of its block. The runners go in turn, alone, on all threads. What they watch while they train is a small piece
of that tenth, as nanoGPT's loop does. `hour`: seeds of the preset, their probabilities averaged. The word `picture`
draws what docs/results/shakespeare.csv holds.
"""

import gzip
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from matplotlib.figure import Figure
from plain_gpt import BLOCK, PlainGPT, encode, windows
from safetensors.torch import load_file
from timer import machine
from torch import Tensor, nn

from nanolm.plots import COLOURS, GREY, STYLE
from nanolm.runs.run import Run

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt.gz"
START = 10.0  # seconds of nanolm's that are no steps: imports, corpus, evaluations, report
WATCHED = 20_000  # characters of the last tenth
OURS = ["data.document=file", "data.normalise=none", "tokenizer=char", "model=tiny", "batch_size=32"]
OURS += ["samples=0", "tracking=disabled"]
EIGHTH = ["model.dims=64", "model.nblocks=2", "model.context=32", "optim.lr=0.01", "precision=fp32", "tokens=130000"]
EIGHTH += ["model.ngrams=5", "model.ngram_rows=8192"]
WHOLE = ["model.dims=96", "model.nblocks=4", "model.context=64", "optim.lr=0.008"]
WHOLE += ["model.ngrams=6", "model.ngram_rows=16384"]
HOUR = ["-m", "seed=1,2,3,4", "model.heads=3", "model.dropout=0.15", "tokens=8000000", "eval_every=1000000"]
A100_BLOCK, A100_NATS = 256, 1.4697  # nanoGPT's README: 10.65 million parameters, 5,000 steps of 64 x 256
Row = tuple[str, float, float, float, float, int]


def main(words: list[str]) -> None:
    """One race and its table, or the picture."""
    if words == ["picture"]:
        return draw(ROOT / "docs/results/shakespeare.csv", ROOT / "docs/race.png")
    path = Path(words.pop(0)) if words and "=" not in words[0] and words[0] != "shakespeare" else TEXT
    if not path.is_file():
        raise SystemExit(f"race.py: {path}: no such file; make race TEXT=tinyshakespeare.txt names yours")
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    machine("Race: tiny Shakespeare, characters")
    with tempfile.TemporaryDirectory() as place:
        if words[:1] in (["shakespeare"], ["hour"]):
            against_a100(text, Path(place), words[0], words[1:])
        else:
            against_cpu_recipe(text, Path(place), words)


def against_cpu_recipe(text: str, place: Path, words: list[str]) -> None:
    """nanoGPT's CPU recipe, nanolm in an eighth of its time, and in its time."""
    steps = [word.partition("=")[2] for word in words if word.startswith("steps=")]  # for a trial
    words = [word for word in words if not word.startswith("steps=")]
    first = int(len(text) * 0.9)
    files = {"text": text, "train": text[:first], "val": text[first : first + WATCHED]}
    for name, part in files.items():
        (place / f"{name}.txt").write_text(part, "utf-8")
    wall = timed([sys.executable, str(ROOT / "benchmarks/plain_gpt.py"), str(place / "text.txt"), str(place), *steps])
    ids, known = encode(text)
    plain = PlainGPT(len(known))
    plain.load_state_dict(load_file(place / "plain.safetensors"))
    rows: list[Row] = [("nanoGPT's CPU recipe", wall, *scores(plain, ids[first:], BLOCK, BLOCK), BLOCK)]
    given = ["data=files", f"data.train_path={place}/train.txt", f"data.val_path={place}/val.txt", *OURS]
    minutes = max(1.0, wall - START) / 60
    for name, recipe in {"an eighth of its time": EIGHTH, "its time": [*WHOLE, f"minutes={minutes:.4f}"]}.items():
        rows.append(raced(f"nanolm in {name}", [*given, *recipe, *words], text[first:], place / name, BLOCK))
    print_table(rows)
    (_, wall, theirs, *_), (_, fast, early, *_), (_, _, late, *_) = rows
    print(f"\nIn {fast / wall:.3f} of the time {early - theirs:+.3f} nats, in the same time {late - theirs:+.3f}.")


def against_a100(text: str, place: Path, name: str, words: list[str]) -> None:
    """The preset, or several seeds of it as one model, beside nanoGPT's published result, which is its estimate."""
    (place / "text.txt").write_text(text, "utf-8")
    given = ["experiment=shakespeare", f"data.path={place}/text.txt", "samples=0", "tracking=disabled", *words]
    row, given = ("experiment=shakespeare", given) if name == "shakespeare" else ("seeds of it", [*HOUR, *given])
    rows = [raced(f"nanolm, {row}", given, text[int(len(text) * 0.9) :], place / "runs", A100_BLOCK)]
    print_table(rows)
    print(f"\nnanoGPT's A100, by its estimate: {A100_NATS}; {rows[0][4] - A100_NATS:+.4f}.")


def raced(name: str, words: list[str], val: str, outputs: Path, block: int) -> Row:
    """A row of one train.py: its best weights scored on `val`; those of a sweep's jobs together."""
    seconds = timed([sys.executable, str(ROOT / "train.py"), *words, f"outputs={outputs}"])
    runs = [Run.open(manifest.parent) for manifest in sorted(outputs.glob("**/manifest.json"))]
    models = [run.model().eval() for run in runs]
    ids, context = torch.tensor(runs[0].tokenizer().encode(val)), models[0].context
    return name, seconds, *scores(Averaged(models), ids, block, context), context


class Averaged(nn.Module):
    """Models as one, which has the mean of their probabilities."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        """ids, targets (B, T) -> (B, T)."""
        nats = torch.stack([model.nats(ids, targets) for model in self.models])  # type: ignore[operator]
        return math.log(len(nats)) - (-nats).logsumexp(0)


def timed(command: list[str]) -> float:
    """Seconds on the wall of a command that must succeed; what it prints goes to stderr."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - begun


def scores(model: nn.Module, ids: Tensor, block: int, context: int) -> tuple[float, float, float]:
    """Nats a character: windows of `block` side by side, of `context` overlapping by half, nanoGPT's estimate.

    A model of a shorter context than the block has windows of its context.
    """
    block = min(block, context)
    return whole(model, ids, block, block), whole(model, ids, context, context // 2), estimate(model, ids, block)


@torch.no_grad()
def whole(model: nn.Module, ids: Tensor, block: int, stride: int) -> float:
    """The mean over every id but the first, once each: a window begins every `stride`, and scores what is new."""
    total, done = 0.0, 0  # ids[1 : done + 1] are scored
    for start in range(0, len(ids) - 1, stride):
        row = ids[start : start + block + 1]
        nats = model.nats(row[None, :-1], row[None, 1:])[0]
        total += float(nats[done - start :].double().sum())
        done = start + len(row) - 1
        if done == len(ids) - 1:
            break
    return total / done


@torch.no_grad()
def estimate(model: nn.Module, ids: Tensor, block: int, count: int = 4000) -> float:
    """nanoGPT's: the mean over random windows of its block; more than its 20 batches of 12, and always the same."""
    chance = torch.Generator().manual_seed(1)
    return float(torch.cat([model.nats(*windows(ids, block, 100, chance)) for _ in range(count // 100)]).mean())


def print_table(rows: list[Row]) -> None:
    """The rows in Markdown."""
    print("\n| | seconds | nats a character, side by side | own context, overlapping | nanoGPT's estimate | context |")
    print("|---|---|---|---|---|---|")
    for name, seconds, *nats, context in rows:
        print(f"| {name} | {seconds:.1f} | {' | '.join(f'{value:.4f}' for value in nats)} | {context} |")


def draw(table: Path, picture: Path) -> None:
    """nanoGPT's estimate over the seconds of each runner; the A100's result as a line."""
    rows = pd.read_csv(table)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        axes = figure.subplots()
        for (who, points), colour in zip(rows.groupby(rows["runner"].str.split(",").str[0]), COLOURS, strict=False):
            axes.plot(points["seconds"], points["estimate"], "o-", color=colour, label=who)
            for point in points.itertuples():
                note = f"{point.estimate:.2f} after {point.seconds:,.0f} s"
                axes.annotate(note, (point.seconds, point.estimate), (6, 6), textcoords="offset points", fontsize=8)
        axes.axhline(A100_NATS, color=GREY, linestyle="--", label=f"nanoGPT on an A100: {A100_NATS:.2f}")
        axes.set(
            xscale="log",
            xticks=[10, 60, 600, 3600],
            xlabel="seconds from command to result",
            ylabel="nats a character, nanoGPT's estimate",
        )
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(rows["seconds"].min() / 1.5, rows["seconds"].max() * 4)
        axes.legend(loc="upper right")
        figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1:])
