"""A run's model, ready for use: the one place where device, precision, quantization and weights are decided.

In: the words of a config: run, which, device, precision, quantize. Out: a model in eval mode with its tokenizer, or
ConfigError. Every verb that works with a trained model comes through here.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from nanolm.config import one_of
from nanolm.errors import ConfigError
from nanolm.hardware import check_quantize, pick_device, pick_precision
from nanolm.model.fast.int8 import quantize as quantize_int8
from nanolm.model.fast.packed import HALVES
from nanolm.model.fast.recorded import ready_to_write
from nanolm.model.fast.restore import is_rounded
from nanolm.model.transformer import Transformer
from nanolm.runs.find import find_run
from nanolm.runs.run import Run
from nanolm.spinning import spin_unless_busy
from nanolm.tokenizer.base import Tokenizer


@dataclass
class Loaded:
    """An open run with its model."""

    run: Run
    tokenizer: Tokenizer
    model: Transformer
    device: torch.device
    weights: str  # fp32, bf16 or int8
    precision: str = "fp32"  # or bf16: what weights in fp32 are to be multiplied in, by autocast


def load_for_writing(
    run: str | Path = "latest",
    outputs: str | Path = "outputs",
    which: str = "best",
    device: str = "auto",
    precision: str = "auto",
    quantize: str | None = None,
    recorded: bool = True,
) -> Loaded:
    """The model as it writes fastest: in bf16 its weights are bf16 too; recorded: see `ready_to_write`.

    which: best or last weights, or `step-500`, which was kept. precision `auto`: bf16 where the machine multiplies in
    it, as in training; on a CPU matrices below `packed.LARGE` stay in fp32, which is faster for them, and so does all
    arithmetic but the products. In fp32 all CPUs write the same text. Raises NanolmError.
    """
    loaded = _load(run, outputs, which, device, quantize)
    on_cpu = loaded.device.type == "cpu"
    if precision == "auto" and on_cpu and not HALVES:
        precision = "fp32"
    if _multiplied_in(precision, loaded) == "bf16":
        loaded.weights = "bf16"
        if not (on_cpu and HALVES):
            loaded.model.to(torch.bfloat16)
    ready_to_write(loaded.model, recorded, half=loaded.weights == "bf16")
    return loaded


def load_for_scoring(
    run: str | Path = "latest",
    outputs: str | Path = "outputs",
    device: str = "auto",
    precision: str = "fp32",
    quantize: str | None = None,
    which: str = "best",
) -> Loaded:
    """The model with the weights `which`, which stay as they are: in bf16 only the products are.

    Raises NanolmError.
    """
    one_of("precision", precision, ("fp32", "bf16"))
    loaded = _load(run, outputs, which, device, quantize)
    loaded.precision = _multiplied_in(precision, loaded)
    return loaded


def _load(spec: str | Path, outputs: str | Path, which: str, device: str, quantize: str | None) -> Loaded:
    spin_unless_busy()
    place = pick_device(device)
    check_quantize(quantize, place)
    run = Run.open(find_run(str(spec), outputs))
    model, weights = run.model(which), "fp32"
    if is_rounded(model.state_dict()):
        weights = "int8"
        if quantize == "bf16":
            raise ConfigError(f"quantize=bf16: the weights of {run.folder} are int8 already; leave it out")
        if place.type != "cpu":
            raise ConfigError(f"device={device}: the weights of {run.folder} are int8, for the CPU; give device=cpu")
    elif quantize == "int8":
        quantize_int8(model)
        weights = "int8"
    elif quantize == "bf16":
        model, weights = model.to(torch.bfloat16), "bf16"
    return Loaded(run, run.tokenizer(), model.to(place), place, weights)


def _multiplied_in(precision: str, loaded: Loaded) -> str:
    """fp32 or bf16: what fp32 weights are to be multiplied in. Others have their own products."""
    if precision == "bf16" and loaded.weights == "int8":
        raise ConfigError("precision=bf16: the weights are int8, whose products are not in bf16; leave it out")
    picked = pick_precision(precision, loaded.device)
    return picked if loaded.weights == "fp32" else "fp32"
