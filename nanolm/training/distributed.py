"""One run over many processes, as `torchrun` starts them: the first one trains, the others lend it their gradients.

In: the batches of a step. Out: the gradient of all their rows, summed over the processes, on the first one, which alone
has optimizer, data and run folder. The others keep nothing between two steps: each brings them the weights and rows, so
that a run may go on with any number of processes. Sums travel by gloo between CPUs, by nccl between GPUs.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nanolm.corpus.batches import Batch
from nanolm.errors import ConfigError, RunError
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.training.setup import Setup

Rows = list[tuple[np.ndarray, np.ndarray]]  # ids and targets of each batch
PATIENCE = timedelta(days=7)  # the others wait while the first one evaluates and reports


def processes() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def together(device: str) -> Iterator[bool]:
    """Joins the processes that torchrun started, if it did; gives whether this is the first, with which they end."""
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield True
        return
    gpus, local = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={device}: torchrun gives each process a device of its own; take auto, cpu or cuda")
    if gpus and device != "cpu" and local > gpus:
        raise ConfigError(f"--nproc-per-node={local}: this machine has {gpus} GPUs; start fewer, or set device=cpu")
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def backward(setup: Setup, group: Sequence[Batch], alone: bool = False) -> Tensor:
    """Leaves the gradient of the mean nats per target of `group`, and returns their sum; `alone`: with no other's help.

    Raises RunError where another process has gone.
    """
    rows, tokens = [(batch.ids, batch.targets) for batch in group], sum(batch.tokens for batch in group)
    if alone or processes() == 1:
        return _backward(setup.model, rows, tokens, setup.precision)
    seed = int(torch.randint(2**62, ()))  # of the others' dropout
    compiled = setup.model._compiled_call_impl is not None
    about = (setup.config.model, len(setup.tokenizer), setup.context, setup.device.type, compiled)
    with _connected():
        dist.broadcast_object_list([(about, setup.config.threads, seed, tokens, rows, setup.precision)])
        dist.broadcast(parameters_to_vector(setup.model.parameters()).detach(), 0)
    nats = _backward(setup.model, _share(rows), tokens, setup.precision)
    with _connected():
        return _add_up(setup.model, nats)


def lend() -> None:
    """The work of every process but the first, until that one has ended, however it did."""
    for number in (signal.SIGINT, signal.SIGTERM):  # that one answers them
        signal.signal(number, signal.SIG_IGN)
    built: Any = None
    while task := _receive():
        about, threads, seed, tokens, rows, precision = task
        if about != built:
            built, model = about, _build(*about)
            weights = parameters_to_vector(model.parameters()).detach()
            vector_to_parameters(weights, model.parameters())
            torch.set_num_threads(threads or torch.get_num_threads())
        dist.broadcast(weights, 0)
        torch.manual_seed(seed + dist.get_rank())
        _add_up(model, _backward(model, _share(rows), tokens, precision))
        model.zero_grad()


def _receive() -> Any:
    message: list[Any] = [None]
    with suppress(RuntimeError):  # the connection is closed
        dist.broadcast_object_list(message)
    return message[0]


def _build(config: ModelConfig, vocabulary: int, context: int, kind: str, compiled: bool) -> Transformer:
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    model = Transformer(config, vocabulary, context).to(device)
    if compiled:
        model.compile(dynamic=True)
    return model


def _backward(model: Transformer, rows: Rows, tokens: int, precision: str) -> Tensor:
    """Adds the gradient of the nats of `rows` over `tokens`; returns the nats."""
    device, nats = model.device, torch.zeros((), device=model.device)
    for pair in rows:
        ids, targets = (_sent(part, device) for part in pair)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):  # parameters stay fp32
            loss = model.loss(ids, targets)
        (loss / tokens).backward()
        nats += loss.detach()
    return nats


def _sent(part: np.ndarray, device: torch.device) -> Tensor:
    """On its way to the device; from pinned memory, because a GPU may wait for what comes from any other."""
    tensor = torch.from_numpy(np.ascontiguousarray(part))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _share(rows: Rows) -> Rows:
    """Every n-th row is this process's: the first one has some of each batch, the others may have none."""
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    return [(ids[mine], targets[mine]) for ids, targets in rows if len(ids) > dist.get_rank()]


def _add_up(model: Transformer, nats: Tensor) -> Tensor:
    """The nats of all processes, and their gradients in this model's place; on the first one only."""
    parameters = list(model.parameters())
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    total = torch.cat([*(grad.flatten() for grad in grads), nats.view(1)])
    dist.reduce(total, 0)
    for grad, summed in zip(grads, total.split([*map(torch.numel, grads), 1]), strict=False):
        grad.copy_(summed.view_as(grad))
    return total[-1]


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RunError("another process of this run has ended; resume= goes on from the last checkpoint") from error
