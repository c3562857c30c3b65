"""What a training shows: what it is about to do, and how it goes.

In: a setup and rows of figures. Out: a live line in a terminal; elsewhere plain lines, at evaluations and now and then.
"""

import time
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nanolm.corpus.corpus import advise
from nanolm.text import counted, escape_controls
from nanolm.training.distributed import world_size
from nanolm.training.keep import steps_to_keep, weight_bytes
from nanolm.training.setup import Setup

SILENCE = 20.0  # seconds between plain lines outside a terminal


def show_setup(setup: Setup, steps: int, compiled: bool) -> None:
    """Prints what is going to be trained on what."""
    parts = {part: count for part, count in setup.model.summary().items() if count}
    device = str(setup.device) if setup.device.type != "cpu" else f"cpu, {counted(torch.get_num_threads(), 'thread')}"
    if world_size() > 1:
        device = f"{world_size()} processes, each: {device}"
    lines = {
        "documents": setup.corpus.summary(),
        "tokenizer": f"{setup.tokenizer.config.name}, vocabulary {len(setup.tokenizer):,}",
        "tokens": ", ".join(f"{len(ids.ids) - len(ids):,} {split}" for split, ids in setup.encoded.items()),
        "model": f"{setup.config.model.name}, {sum(parts.values()):,} parameters: "
        + ", ".join(f"{count:,} {part}" for part, count in parts.items()),
        "context": f"{setup.context:,} tokens",
        "machine": f"{device}, {setup.precision}{', compiled' if compiled else ''}",
        "plan": f"{counted(steps, 'step')}, {epochs(steps / setup.steps_per_epoch)}, "
        f"optimizer {setup.config.optim.name}",
    }
    if kept := steps_to_keep(setup.config.keep_every, steps):
        size = weight_bytes(setup) / 2**20
        lines["kept"] = f"{len(kept):,} checkpoints of {size:,.1f} MiB, {len(kept) * size:,.0f} MiB in all"
    notes = advise(setup.corpus, setup.tokenizer, setup.encoded)
    print(*map(escape_controls, [*(f"{name:<10} {line}" for name, line in lines.items()), *notes]), sep="\n")


class Display:
    """Shows the newest row; `total` steps are planned, `done` were made before this process."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.console, self.total, self.done = console, total, done
        self.begun, self.shown, self.val = time.monotonic(), time.monotonic(), ""
        columns, off = (BarColumn(12), TextColumn("{task.description}")), not console.is_terminal
        self.live = Progress(*columns, console=console, transient=True, disable=off)  # to be entered
        self.task = self.live.add_task("the first steps", total=total, completed=done)

    def show(self, row: Mapping[str, float]) -> None:
        """A new row of metrics."""
        step, evaluated = int(row["step"]), "val_bpb" in row
        if evaluated:
            self.val = f"val {row['val_bpb']:.4f} bits/byte  "
        left = (time.monotonic() - self.begun) * (self.total - step) / max(1, step - self.done)
        speed = f"{row['tokens_per_s']:,.0f} tokens/s  {duration(left)} left"
        line = f"{step:,}/{self.total:,}  loss {row['train_loss']:.3f}  {self.val}{speed}"
        self.live.update(self.task, completed=step, description=line)
        if evaluated or (not self.console.is_terminal and time.monotonic() - self.shown > SILENCE):
            line = f"epoch {row['epoch']:.2f}  step {line}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            self.shown = time.monotonic()

    def replan(self, total: int, speed: str) -> None:
        """From now on `total` steps are planned; `speed`: slower or faster."""
        line = f"the machine is {speed} than before: {total:,} steps instead of {self.total:,} keep to the budget"
        self.total = total
        self.live.update(self.task, total=total)
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def epochs(number: float) -> str:
    """`0.5 epochs`, `1 epoch`."""
    return f"{number:.3g} epoch" + ("s" if f"{number:.3g}" != "1" else "")


def duration(seconds: float) -> str:
    """`45 s`, `3:05 min` or `2:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
