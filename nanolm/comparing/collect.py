"""Runs as they were found: folders, or W&B's API -> one Record each, damaged and unfinished ones included.

In: a CompareConfig. Out: Records. What is damaged becomes a record's `trouble`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nanolm.comparing.config import CompareConfig
from nanolm.comparing.record import LONGEST, Record, find_runs, flatten, why_unranked
from nanolm.errors import NanolmError
from nanolm.files import read_json
from nanolm.runs.run import Run
from nanolm.tracking.online import has_account

ABOUT = ("corpus", "vocabulary", "parameters")  # what tracking writes beside the config, here a part of the status


def collect_records(config: CompareConfig) -> list[Record]:
    """The records of what is compared; NanolmError if there are none."""
    records = from_wandb(config) if config.source == "wandb" else [read_record(folder) for folder in find_runs(config)]
    if not records:
        place = project_of(config) if config.source == "wandb" else config.runs or config.sweep or config.outputs
        raise NanolmError(f"{place}: nothing to compare, no run there; python train.py makes one, train.py -m many")
    return records


def read_record(folder: Path) -> Record:
    """The record of a run folder, its files checked against the manifest; what is wrong becomes its `trouble`."""
    record = Record(str(folder))
    try:
        if (folder / "status.json").exists():
            record.status = flatten(read_json(folder / "status.json"))
            record.ended = (folder / "status.json").stat().st_mtime
        record.trouble = why_unranked(record.status)
        if (folder / "manifest.json").exists() or not record.trouble:
            run = Run.open(folder)
            record.config, record.tokenizer = flatten(run.config), run.manifest["files"].get("tokenizer.json", "")
            record.config["precision"] = record.status.get("precision") or trained_in(folder, record.config)
            for name in ("metrics.csv", "samples.txt", "status.json", "test_bits.csv", "val_bits.csv"):
                if name in run.manifest["files"]:
                    run.file(name)  # raises where it is not what was written
        record.curves = _read_csv(folder / "metrics.csv", ["tokens", "seconds"])
        record.bits = _read_csv(folder / "test_bits.csv", ["document", "bits", "bytes"])
        record.val_bits = _read_csv(folder / "val_bits.csv", ["document", "bits", "bytes"])
        if (folder / "samples.txt").exists():
            record.samples = (folder / "samples.txt").read_text("utf-8", "replace")[:LONGEST]
    except (NanolmError, OSError, AttributeError, TypeError, ValueError, KeyError) as error:  # of another shape
        record.trouble = record.trouble or f"{type(error).__name__}: {' '.join(str(error).split())}"
    return record


def _read_csv(path: Path, needs: list[str]) -> pd.DataFrame:
    """The whole rows of a CSV file of numbers; empty if it doesn't exist, ValueError or KeyError if it is damaged."""
    return pd.read_csv(path, dtype=float).dropna(subset=needs) if path.exists() else pd.DataFrame()


def trained_in(folder: Path, config: Mapping[str, Any]) -> str:
    """The precision that a run was trained in: what `auto` stood for on its machine.

    Runs whose status doesn't name it are of a time when scores were measured in it too, so it is said of both.
    """
    path = folder / "environment.json"
    known = read_json(path).get("precision") if path.exists() else None
    return "bf16, scored in bf16 too" if known == "bf16" else str(known or config.get("precision") or "unknown")


def project_of(config: CompareConfig) -> str:
    """The W&B project that is asked for; W&B itself finds the entity, by WANDB_ENTITY or the account."""
    return config.project or os.environ.get("WANDB_PROJECT") or "nanolm"


def from_wandb(config: CompareConfig, api: Any = None) -> list[Record]:
    """The runs of a W&B project, of one group where `sweep` names it. Bits per document stay in the run folders."""
    if api is None and not has_account():
        mend = "`wandb login` makes one known; source=folders compares the run folders of this machine"
        raise NanolmError(f"source=wandb: no W&B account found; {mend}")
    try:
        if api is None:
            import wandb

            api = wandb.Api(timeout=30)
        filters = {"group": config.sweep} if config.sweep else {}
        return [_from_api(run) for run in api.runs(project_of(config), filters=filters)]
    except Exception as error:  # W&B raises its own errors, those of requests, and ValueError
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise NanolmError(
            f"source=wandb project={project_of(config)}: {line}; check its name and the network"
        ) from error


def _from_api(run: Any) -> Record:
    values = flatten(run.config)
    about = {key: values.pop(key) for key in list(values) if key.split(".")[0] in ABOUT}
    status = {"state": run.state, **about, **flatten(dict(run.summary))}
    record = Record(run.name, values, status, trouble=why_unranked(status))
    if not record.trouble:
        record.curves = run.history(samples=500)
    return record
