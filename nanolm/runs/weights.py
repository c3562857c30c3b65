"""Safetensors files that check themselves: tensors, a JSON note beside them, and a sha256 over both.

In: a path, named tensors, a note. Out: the same back, or a RunError that names the file. One file is one rename, so
what is stored together is never mixed. Knows no model and no run; runs no code from the file.
"""

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nanolm.errors import RunError
from nanolm.files import atomically
from nanolm.text import first_line


def write_weights(path: Path, tensors: Mapping[str, Tensor], note: Any) -> None:
    """Writes `tensors` (moved to the CPU) and the JSON-able `note`, atomically."""
    stored = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"note": note, "sha256": _digest(stored, note)})
    with atomically(path) as aside:
        try:
            save_file(stored, aside, {"nanolm": text})  # one key: safetensors writes several in random order
        except SafetensorError as error:  # what the disk says is only in its words
            raise OSError(errno.EIO, first_line(error)) from None


def read_weights(path: Path, part: str = "") -> tuple[dict[str, Tensor], Any]:
    """(tensors, note) of a file of `write_weights`; only the tensors whose name starts with `part`, without that.

    A header can't lie about size: safetensors refuses one whose tensors don't fill the file exactly.
    Raises RunError where the file is missing, cut, or one bit of it differs from what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            own = json.loads((file.metadata() or {})["nanolm"])
        note, sha256 = own["note"], own["sha256"]
    except FileNotFoundError:
        raise RunError(f"{path}: missing") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged, or not a file of nanolm's ({first_line(error)})") from None
    if sha256 != _digest(tensors, note):
        raise RunError(f"{path}: damaged, its checksum differs")
    return {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}, note


def _digest(tensors: Mapping[str, Tensor], note: Any) -> str:
    digest = hashlib.sha256(json.dumps(note).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
