"""What is known of one run, as plain values; and where the runs that are asked for lie.

In: a CompareConfig, nested dicts. Out: Records with flat dicts (`model.dims`, `parameters.mlp`), folders. Judges
nothing but whether a run can be ranked, and imports no torch: the live page has no use for it.
"""

import glob
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from nanolm.comparing.config import CompareConfig
from nanolm.errors import NanolmError

LONGEST = 10_000  # characters of samples.txt that are shown


@dataclass
class Record:
    """One run. `trouble` says in a line why it is not ranked; empty if it is."""

    name: str  # its folder, or its name in W&B
    config: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)  # the rows of metrics.csv
    bits: pd.DataFrame = field(default_factory=pd.DataFrame)  # document, bits, bytes of each test document
    val_bits: pd.DataFrame = field(default_factory=pd.DataFrame)  # the same of val
    samples: str = ""
    tokenizer: str = ""  # checksum of tokenizer.json
    ended: float | None = None  # when its status was written last, in seconds since 1970
    trouble: str = ""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys, a group's option under the group's name: `tokenizer`, `model.dims`."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".removesuffix(".name")
        pairs |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return pairs


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def why_unranked(status: Mapping[str, Any]) -> str:
    """Why a run with this status can't be ranked, in a line; empty if it can."""
    state = status.get("state", "unknown state")
    rung, score = status.get("rung"), status.get("rung_bpb")
    if state == "stopped" and is_number(rung) and is_number(score):
        return f"stopped at {rung:.0%}: {score:.4f} bits per byte on val there"
    if state != "finished":
        return f"{state}: {status['error']}" if status.get("error") else str(state)
    scored = is_number(status.get("val_bpb")) or is_number(status.get("test_bpb"))
    return "" if scored else "finished without a finite score"


def find_runs(config: CompareConfig) -> list[Path]:
    """The run folders that `sweep` or `runs` names, or all under `outputs`."""
    pattern = config.runs or f"{glob.escape(config.outputs)}/**"
    if config.sweep is not None:
        pattern = f"{glob.escape(str(find_sweep(config.sweep, Path(config.outputs))))}/*"
    marks = ("manifest.json", "status.json")  # the latter alone: of a job that failed at once
    found = {Path(file).parent for mark in marks for file in glob.glob(f"{pattern}/{mark}", recursive=True)}
    return sorted(folder for folder in found if config.runs or folder.parent.name != "exports")


def sweeps(outputs: Path) -> list[Path]:
    """The notes of all sweeps, the newest last."""
    return sorted(outputs.glob("**/sweep.json"), key=lambda note: note.stat().st_mtime)


def find_sweep(name: str, outputs: Path) -> Path:
    """The folder of a sweep: the newest for `latest`; NanolmError if there is none."""
    named = (
        [note.parent for note in sweeps(outputs)[-1:]] if name == "latest" else [Path(name), outputs / "sweeps" / name]
    )
    for folder in filter(Path.is_dir, named):
        return folder
    raise NanolmError(f"sweep={name}: no such sweep; give latest, a folder, or a name from {outputs}/sweeps")
