"""The state of a run in one file: weights, optimizer, random numbers, and how far it has come.

In: a model, an optimizer and a Progress. Out: last.safetensors, whole or not at all, the one before kept beside it.
A run restored from it goes on bit for bit as if it had not been interrupted; on a GPU, whose kernels add up in any
order, with the same batches, draws and state.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanolm.config import fill
from nanolm.errors import NanolmError, RunError
from nanolm.files import replace
from nanolm.runs.run import LAST, PREVIOUS
from nanolm.runs.weights import read_weights, write_weights
from nanolm.training.progress import Progress
from nanolm.training.setup import Setup

PARTS = ("model", "average")  # of a setup, each with weights of its own


def save_checkpoint(folder: Path, setup: Setup, progress: Progress) -> None:
    """Writes last.safetensors; the old one becomes previous.safetensors."""
    tensors = {f"{part}/{name}": tensor for part in PARTS for name, tensor in _weights(setup, part).items()}
    states = pack_state(setup.optimizer.state_dict(), "optimizer", tensors)
    note = {"progress": dataclasses.asdict(progress), "optimizer": states}
    tensors["random/cpu"] = torch.get_rng_state()
    if setup.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(setup.device)
    elif setup.device.type == "mps":
        tensors["random/mps"] = torch.mps.get_rng_state()
    aside = folder / "next.safetensors"
    write_weights(aside, tensors, note)
    if (folder / LAST).exists():
        replace(folder / LAST, folder / PREVIOUS)
    replace(aside, folder / LAST)


def load_checkpoint(folder: Path, setup: Setup) -> Progress | None:
    """Restores the last checkpoint, or the one before with a word where the last is damaged; None where none is yet.

    Raises RunError where both are damaged.
    """
    paths = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        try:
            tensors, note = read_weights(path)
            for part in PARTS:
                if weights := {name: tensors[f"{part}/{name}"] for name in _weights(setup, part)}:
                    getattr(setup, part).load_state_dict(weights)
            setup.optimizer.load_state_dict(unpack_state(note["optimizer"], tensors))
            torch.set_rng_state(tensors["random/cpu"])
            if setup.device.type == "cuda" and "random/cuda" in tensors:
                torch.cuda.set_rng_state(tensors["random/cuda"], setup.device)
            elif setup.device.type == "mps" and "random/mps" in tensors:
                torch.mps.set_rng_state(tensors["random/mps"])
            return fill(Progress, note["progress"], "progress")
        except torch.OutOfMemoryError:
            raise
        except NanolmError as error:
            print(f"{error}; looking for the checkpoint before it", file=sys.stderr)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            print(f"{path}: doesn't fit the run's model; looking for the checkpoint before it", file=sys.stderr)
    if paths:
        raise RunError(f"{folder}: no checkpoint can be read; copy the folder again, or start anew with init={folder}")
    return None


def _weights(setup: Setup, part: str) -> dict[str, Tensor]:
    module = getattr(setup, part)
    return module.state_dict() if module is not None else {}


def pack_state(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` (dicts, lists, plain values, tensors) as JSON, its tensors put into `tensors` under their path in it."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):  # as pairs, because JSON would turn the keys 0, 1, 2 into text
        return {"pairs": [[key, pack_state(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [pack_state(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    return value


def unpack_state(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `pack` was given."""
    if isinstance(value, list):
        return [unpack_state(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    return (
        tuple(unpack_state(content, tensors))
        if kind == "tuple"
        else {key: unpack_state(item, tensors) for key, item in content}
    )
