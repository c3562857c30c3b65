"""The loss of a batch as training takes it: in one process, or on one of several ranks that share a step.

In: ids and targets. Out: summed nats; of several ranks, gradients that are the mean over all of them once the backward
pass of a step's last batch has ended, of neighbours each has a part of. Knows no run.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Optional

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nanolm.model.transformer import Transformer
from nanolm.optim.optimizer import AdamOptimizer
from nanolm.training.distributed import connected, wait_for_all, world_size
from nanolm.training.neighbours import Neighbours, neighbours_of

BUCKET = 4  # MB that are sent together from machine to machine; of torch's 25 the last ones are ready too late


class Loss(nn.Module):
    """The model's, in one process."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets (B, T)."""
        return self.model.loss(ids, targets)

    @contextmanager
    def one_pass(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a batch; last: of its step."""
        yield

    def clip(self, limit: float) -> Tensor:
        """Scales the whole gradient to a norm of at most `limit`; returns the norm before it."""
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def end_step(self) -> None:
        """After the weights have been moved."""


def rank_loss(model: Transformer, optimizer: AdamOptimizer) -> Loss:
    """Of one of several ranks: by a common model and optimizer where they are on one machine's CPU. Raises RankGone."""
    wait_for_all()  # one may have read the text long before another
    with connected():
        neighbours = neighbours_of(optimizer) if model.device.type == "cpu" else None
    return RankLoss(model) if neighbours is None else NeighbourLoss(model, neighbours)


class RankLoss(Loss):
    """Of one of several ranks, whose gradients DistributedDataParallel brings together, on a CPU without those of the
    embedding (`BothEnds`). Raises RankGone.
    """

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        size = BUCKET if world_size() > int(os.environ.get("LOCAL_WORLD_SIZE", "1")) else None
        how: dict[str, Any] = {"broadcast_buffers": False, "gradient_as_bucket_view": True, "bucket_cap_mb": size}
        with connected(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has another name for broadcast_buffers
            self.ends = BothEnds(model) if model.device.type == "cpu" else None
            self.parallel = DistributedDataParallel(self.ends or Loss(model), **how)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        nats: Tensor = self.parallel(ids, targets)
        return nats

    @contextmanager
    def one_pass(self, last: bool) -> Iterator[None]:
        if self.ends:
            self.ends.last = last
        with nullcontext() if last else self.parallel.no_sync():
            yield
        if self.ends and last:
            self.ends.hand_on()


class NeighbourLoss(Loss):
    """Of one of several ranks on a machine, which has the gradients of its part of the parameters only."""

    def __init__(self, model: Transformer, neighbours: Neighbours) -> None:
        super().__init__(model)
        self.neighbours = neighbours

    @contextmanager
    def one_pass(self, last: bool) -> Iterator[None]:
        yield
        if last:
            self.neighbours.average()

    def clip(self, limit: float) -> Tensor:
        return self.neighbours.clip(limit)

    def end_step(self) -> None:
        dist.barrier()  # all parts are moved


class BothEnds(Loss):
    """The model's, with the embedding's gradients apart: one is sent early, the other as the few rows that it is.

    DistributedDataParallel sends a tied embedding's last of all and as a whole. What the loss has of it, as large as
    the table, is there before the backward pass of the blocks, and is sent during it; of the ids that were read it is
    some rows. The table is what is sent, so what pieces of words learn from it isn't sent at all.
    """

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        embedding = model.embedding
        names = [f"model.embedding.{name}" for name, _ in embedding.named_parameters()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, names)
        for parameter in embedding.parameters():  # as DistributedDataParallel does with the others
            dist.broadcast(parameter.data, 0)
        self.last = True
        self.step: Optional[_Step] = None

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        if self.step is None:
            self.step = _Step(self.model.embedding.table())
            self.step.leaf.register_post_accumulate_grad_hook(lambda leaf: self.send(leaf.grad))
        step, vectors = self.step, F.embedding(ids, self.step.leaf.detach()).requires_grad_()

        def were_read(vectors: Tensor) -> None:
            step.add_rows(ids.flatten(), vectors.grad)
            self.send(step.rows)

        vectors.register_post_accumulate_grad_hook(were_read)
        return self.model.loss_between(vectors, step.leaf, ids, targets)

    def send(self, gradient: Optional[Tensor]) -> None:
        """Has it added up over the ranks, if all passes of the step are in it."""
        if self.step and self.last:
            self.step.sent.append(dist.all_reduce(gradient, async_op=True))

    def hand_on(self) -> None:
        """Waits for what was sent, and hands it on to the embedding."""
        if self.step:
            for work in self.step.sent:
                work.wait()
            self.step.table.backward(self.step.gradient().div_(world_size()))
        self.step = None


class _Step:
    """The embedding's table (V, dims) as a step finds it, a leaf of the same values, and what is known of its gradient.

    leaf.grad: what the losses have of it. rows: what was read, sparse.
    """

    def __init__(self, table: Tensor) -> None:
        self.table, self.leaf = table, table.detach().requires_grad_()
        self.rows: Optional[Tensor] = None
        self.sent: list[Any] = []

    def add_rows(self, ids: Tensor, gradient: Optional[Tensor]) -> None:
        """Of the ids (N,) that a pass has read; gradient (..., dims) of their vectors."""
        assert gradient is not None
        places, values = ids.unsqueeze(0), gradient.flatten(0, -2)
        rows = torch.sparse_coo_tensor(places, values, self.table.shape, check_invariants=False)
        self.rows = (rows if self.rows is None else self.rows + rows).coalesce()

    def gradient(self) -> Tensor:
        """(V, dims)."""
        assert self.rows is not None
        return self.rows.to_dense() if self.leaf.grad is None else self.leaf.grad.add_(self.rows)
