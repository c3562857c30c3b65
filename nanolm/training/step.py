"""One optimizer step, and the figures of the steps since the last look at them.

In: a setup, a few batches, a learning rate. Out: changed weights; losses and norms stay on the device until they are
read, so that a GPU never waits for the host. A loss or gradient that is not finite ends the run.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nanolm.corpus.batches import Batch
from nanolm.errors import NanolmError
from nanolm.optim.base import lr_factor
from nanolm.training.distributed import add_up, connected, rank, world_size
from nanolm.training.progress import Progress
from nanolm.training.setup import Setup

# devices whose figures are read before each step: nothing waits for it, and Adam on mps ignores found_inf in torch 2.9
SYNCHRONOUS = {"cpu", "mps"}


class Diverged(NanolmError):
    """A loss or gradient that is not finite; the weights have nothing of it."""


class Meter:
    """Losses (summed nats) and gradient norms of steps that have not been read yet."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float, int]] = []  # step, learning rate, tokens
        self.figures: list[Tensor] = []  # (nats, norm)

    def add(self, step: int, lr: float, tokens: int, nats: Tensor, norm: Tensor) -> None:
        """Notes one step; copies nothing from the device."""
        self.steps.append((step, lr, tokens))
        self.figures.append(torch.stack([nats, norm]))

    def read(self, progress: Progress) -> None:
        """Moves what is noted into `progress`; raises Diverged at the first figure that is not finite."""
        steps, values = self.steps, torch.stack(self.figures).tolist() if self.figures else []
        self.steps, self.figures = [], []
        for (step, lr, tokens), (nats, norm) in zip(steps, values, strict=True):
            if not (math.isfinite(nats) and math.isfinite(norm)):
                what = "loss" if not math.isfinite(nats) else "gradient"
                raise Diverged(
                    f"the {what} is no longer finite at step {step} (optim.lr={lr:.3g} there, loss {nats:.4g} nats, "
                    f"gradient norm {norm:.4g}, {progress.norm:.4g} before): lower optim.lr, or set optim.clip"
                )
            progress.nats += nats
            progress.nats_tokens += tokens
            progress.norm = norm


def learning_rate(setup: Setup, step: int, total: int) -> float:
    """optim.lr at the step that follows `step` others."""
    return setup.config.optim.lr * lr_factor(setup.config.optim, step, total, setup.steps_per_epoch)


def forward_backward(setup: Setup, batches: Sequence[Batch]) -> Tensor:
    """Leaves the gradient of the mean nats per target of `batches` (of neighbours, on each its part); returns their
    summed nats. Both over all ranks."""
    tokens = sum(batch.tokens for batch in batches)
    nats = torch.zeros((), device=setup.device)
    for number, batch in enumerate(batches, 1):
        with setup.loss.one_pass(last=number == len(batches)):
            ids, targets = (to_device(array, setup.device) for array in (batch.ids, batch.targets))
            with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.precision == "bf16"):
                loss = setup.loss(ids, targets)  # parameters stay fp32
            (loss * (world_size() / tokens)).backward()  # the ranks' gradients are averaged
        nats += loss.detach()
    return add_up(nats)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """On its way to the device; from pinned memory, because a GPU may wait for what comes from any other."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def gradient(setup: Setup, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """(summed nats, norm before clipping); leaves the gradient of the mean nats per target, clipped (`Loss`)."""
    nats = forward_backward(setup, batches)
    clip = setup.config.optim.clip
    return nats, setup.loss.clip(math.inf if clip is None else clip)


def take_step(setup: Setup, batches: Sequence[Batch], progress: Progress, total: int, meter: Meter) -> None:
    """One update with the gradient of `batches`; one that isn't finite leaves the weights as they were."""
    if rank() > 0:  # dropout's draws of the first rank go on from step to step, and are saved
        torch.manual_seed(int(np.random.SeedSequence([setup.config.seed, rank(), progress.step]).generate_state(1)[0]))
    lr = learning_rate(setup, progress.step, total)
    for parameters in setup.optimizer.param_groups:
        parameters["lr"] = parameters["base_lr"] * lr / setup.config.optim.lr
    with connected():
        nats, norm = gradient(setup, batches)
    tokens = sum(batch.tokens for batch in batches)
    meter.add(progress.step + 1, lr, tokens, nats, norm)
    if setup.device.type in SYNCHRONOUS:
        meter.read(progress)
    else:  # the optimizers look at this flag on the device
        setup.optimizer.found_inf = (~(nats + norm).isfinite()).float()
    with connected():
        setup.optimizer.step()
        setup.loss.end_step()
    setup.optimizer.zero_grad()
    progress.step += 1
    progress.tokens += tokens
