"""`make race`: nanolm against nanoGPT's CPU recipe (plain_gpt.py) on tiny Shakespeare, both from command to result.

In: the text's file (.gz or not), then words for every train.py, as `model.dims=192`. Out: a Markdown table: seconds on
the wall, and nats a character on the last tenth of the text, by the same functions for both: every character once, in
windows of 64 side by side (so many are seen at most) and of the model's own context that overlap by half; and
nanoGPT's estimate, random windows of its block. The two run in turn, alone, on all threads.
"""

import gzip
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from plain_gpt import BLOCK, PlainGPT, encode, windows
from safetensors.torch import load_file
from timer import machine
from torch import Tensor, nn

from nanolm.runs.find import find_run
from nanolm.runs.run import Run

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt.gz"
START = 8.0  # seconds of nanolm's that are no steps: imports, corpus, evaluations, report
OURS = ["data=files", "data.document=file", "data.normalise=none", "data.split=tail", "data.val=0.1", "tokenizer=char"]
OURS += ["model=tiny", "model.context=64", "batch_size=12", "samples=0", "tracking=disabled"]
SHARES = {"an eighth of its time": 1 / 8, "its time": 1.0}
Row = tuple[str, float, float, float, float, int]


def main(words: list[str]) -> None:
    """Both races and the table."""
    path = Path(words.pop(0)) if words and "=" not in words[0] else TEXT
    if not path.is_file():
        raise SystemExit(f"race.py: {path}: no such file; make race TEXT=tinyshakespeare.txt names yours")
    steps = [word.partition("=")[2] for word in words if word.startswith("steps=")]  # for a trial
    words = [word for word in words if not word.startswith("steps=")]
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    machine("Race: tiny Shakespeare, characters")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "text.txt")
        file.write_text(text, "utf-8")
        wall = timed([sys.executable, str(ROOT / "benchmarks/plain_gpt.py"), str(file), place, *steps])
        ids, known = encode(text)
        plain = PlainGPT(len(known))
        plain.load_state_dict(load_file(f"{place}/plain.safetensors"))
        val = ids[int(len(ids) * 0.9) :]
        rows: list[Row] = [("nanoGPT's CPU recipe", wall, *scores(plain, val, BLOCK), BLOCK)]
        for name, share in SHARES.items():
            budget = max(1.0, share * wall - START) / 60
            given = [*OURS, f"data.path={file}", f"minutes={budget:.4f}", f"outputs={place}/{share:.3f}", *words]
            seconds = timed([sys.executable, str(ROOT / "train.py"), *given])
            run = Run.open(find_run("latest", f"{place}/{share:.3f}"))
            model, val = run.model().eval(), torch.tensor(run.tokenizer().encode(text[int(len(text) * 0.9) :]))
            rows.append((f"nanolm in {name}", seconds, *scores(model, val, model.context), model.context))
    print_table(rows)


def timed(command: list[str]) -> float:
    """Seconds on the wall of a command that must succeed; what it prints goes to stderr."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - begun


def scores(model: nn.Module, ids: Tensor, context: int) -> tuple[float, float, float]:
    """Nats a character: windows of 64 side by side, of `context` overlapping by half, nanoGPT's estimate."""
    return whole(model, ids, BLOCK, BLOCK), whole(model, ids, context, context // 2), estimate(model, ids)


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
def estimate(model: nn.Module, ids: Tensor, count: int = 4000) -> float:
    """nanoGPT's: the mean over random windows of its block; more than its 20 batches of 12, and always the same."""
    chance = torch.Generator().manual_seed(1)
    return float(torch.cat([model.nats(*windows(ids, BLOCK, 100, chance)) for _ in range(count // 100)]).mean())


def print_table(rows: list[Row]) -> None:
    """The rows in Markdown, and what the two goals say."""
    print(
        "\n| | seconds | nats a character, 64 side by side | own context, overlapping | nanoGPT's estimate | context |"
    )
    print("|---|---|---|---|---|---|")
    for name, seconds, *nats, context in rows:
        print(f"| {name} | {seconds:.1f} | {' | '.join(f'{value:.4f}' for value in nats)} | {context} |")
    (_, wall, theirs, *_), (_, fast, early, *_), (_, _, late, *_) = rows
    print(f"\nIn {fast / wall:.3f} of the time {early - theirs:+.3f} nats, in the same time {late - theirs:+.3f}.")


if __name__ == "__main__":
    main(sys.argv[1:])
