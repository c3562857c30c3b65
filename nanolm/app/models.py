"""The runs that the page can use, by name; and what a visitor may ask of them.

In: the folder of runs, the run to begin with. Out: generators. A name is looked up among the runs that exist and never
becomes a path, so that nothing else can be opened.
"""

import dataclasses
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from nanolm.app.worker import Worker
from nanolm.config import between
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError, NanolmError, RunError
from nanolm.generator import Generator, load, say
from nanolm.runs.find import find_run
from nanolm.runs.folders import run_folders
from nanolm.runs.run import BEST, LAST, Run

OPEN = 3  # models in memory
CHARACTERS = 4_000  # of a prompt or a text
TOKENS = 400  # new ones, of each text
ROWS = 16  # samples or beams


class Models:
    """Generators by the names of the runs under `outputs`, or else of those beside `run`. RunError if there is none."""

    def __init__(self, outputs: Path, run: str = "latest", device: str = "auto", precision: str = "fp32") -> None:
        folder = find_run(run, outputs).resolve()
        self.outputs = outputs if folder in map(Path.resolve, run_folders(outputs)) else folder.parent
        self.first = folder.relative_to(self.outputs.resolve()).as_posix()
        self.worker = Worker()
        self._load = lru_cache(OPEN)(lambda folder, written: load(folder, device=device, precision=precision))

    def names(self) -> dict[str, int]:
        """Every run with weights, the newest first, and when they were written, in nanoseconds."""
        found = {}
        for folder in run_folders(self.outputs):
            if ages := [path.stat().st_mtime_ns for name in (BEST, LAST) if (path := folder / name).exists()]:
                found[folder.relative_to(self.outputs).as_posix()] = max(ages)
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def open(self, name: Any, tell: Callable[[str], None] = say) -> Generator:
        """The generator of the run `name`, a new one over a model that is kept. Raises NanolmError."""
        if (written := self.names().get(str(name))) is None:
            raise RunError(f"run={str(name)[:80]}: no such run with weights here; pick one under Runs")
        made = self._load(f"{self.outputs}/{name}", written)
        return Generator(made.model, made.tokenizer, made.run, tell)

    def score(self, name: str) -> str:
        """Bits per byte of a run on its test documents, or else on those of validation, in words."""
        try:
            status = Run.open(self.outputs / name).status()
        except NanolmError:
            return "damaged"
        found = [value for split in ("test", "val") if isinstance(value := status.get(f"{split}_bpb"), float)]
        return f"{found[0]:.3f} bits per byte" if found else "not evaluated"

    def choices(self) -> list[tuple[str, str]]:
        """(words, name) of every run, the newest first."""
        return [(f"{name} · {self.score(name)}", name) for name in self.names()]

    def about(self, name: str) -> str:
        """A line that says what the model of a run is."""
        made = self.open(name)
        size, kind = sum(made.model.summary().values()), made.tokenizer.config.name
        parts = (f"{size:,} parameters", f"{len(made.tokenizer):,} {kind} tokens", f"context {made.model.context}")
        return " · ".join([*parts, self.score(name)])


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Shows a visitor's mistake as one line; Gradio takes the line for HTML."""
    try:
        yield
    except NanolmError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from error


def checked_text(key: str, value: Any) -> str:
    """The value, if it is a text of bearable length, else ConfigError."""
    if not isinstance(value, str) or len(value) > CHARACTERS:
        raise ConfigError(f"{key}: must be a text of at most {CHARACTERS:,} characters")
    return value


def checked_seed(value: Any) -> int:
    """The seed, a new one for None, else ConfigError."""
    if type(value) not in (int, type(None)) or not 0 <= (value or 0) < 2**63:
        raise ConfigError(f"seed={str(value)[:40]}: must be a whole number from 0 to 2^63 - 1")
    return secrets.randbits(31) if value is None else value


def limited(config: DecodeConfig) -> DecodeConfig:
    """The config with at most TOKENS new tokens; ConfigError for too many samples or beams."""
    between("samples or beams", config.rows_per_prompt, 1, ROWS)
    return dataclasses.replace(config, max_new_tokens=min(config.max_new_tokens or TOKENS, TOKENS))
