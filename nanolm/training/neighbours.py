"""Ranks on one machine have one model and one optimizer, in memory that all see; each moves a part of the weights.

In: the optimizer of a model on a CPU. Out: at each step the mean gradient of this rank's part, and no other's, so that
the optimizer moves those alone. Nothing is sent: through sockets the gradients alone take five times as long, of the
cores that train (the idea is ZeRO's, https://arxiv.org/abs/1910.02054).
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch.distributed as dist
from torch import Tensor, nn

from nanolm.common_memory import common_memory
from nanolm.optim.optimizer import AdamOptimizer
from nanolm.optim.sharing import deal
from nanolm.training.distributed import add_up

BLOCK = 1 << 16  # numbers that are added up together, and stay in a core's cache
LINE = 16  # numbers of a line of the cache, at which each tensor begins


class Neighbours:
    """memory: of `room_for` numbers, zeros in fp32; the first rank's weights are those of all from here on.

    Whoever changes weights outside of a step, as by loading, must do so on all ranks alike, and they must wait for each
    other before one of them reads or changes anything else.
    """

    def __init__(self, optimizer: AdamOptimizer, memory: Tensor) -> None:
        self.rank, ranks = dist.get_rank(), dist.get_world_size()
        self.parameters = list(optimizer.state)
        costs = [optimizer.cost(group, one) for group in optimizer.param_groups for one in group["params"]]
        self.is_own = [owner == self.rank for owner in deal(costs, ranks)]
        places = _places(memory, [*lasting(optimizer), *self.parameters * ranks])
        for parameter in self.parameters:
            place = next(places)
            if self.rank == 0:
                place.copy_(parameter.detach())
            parameter.data = place
        for state in optimizer.state.values():
            for name in state:
                state[name] = next(places)
        self.gradients = [[next(places) for _ in self.parameters] for _ in range(ranks)]
        optimizer.parted = True
        dist.barrier()  # the weights are there

    def average(self) -> None:
        """Makes the gradient of each parameter of this rank the mean over all ranks; every one of them must call it."""
        for parameter, place in zip(self.parameters, self.gradients[self.rank], strict=True):
            if parameter.grad is None:
                place.zero_()
            else:
                place.copy_(parameter.grad)
            parameter.grad = None
        dist.barrier()  # all gradients are there
        for parameter, is_own, *places in zip(self.parameters, self.is_own, *self.gradients, strict=True):
            if is_own:
                for first, *others in zip(*(place.view(-1).split(BLOCK) for place in places), strict=True):
                    for other in others:
                        first.add_(other)
                    first.div_(len(places))
                parameter.grad = places[0]

    def clip(self, limit: float) -> Tensor:
        """Scales the whole gradient to a norm of at most `limit`, each rank its part; returns the norm before it."""
        own = nn.utils.get_total_norm([one.grad for one in self.parameters if one.grad is not None])
        norm = add_up(own.square()).sqrt()
        if norm > limit:
            nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm


def lasting(optimizer: AdamOptimizer) -> list[Tensor]:
    """The weights, and what is remembered of each."""
    return [*optimizer.state, *chain.from_iterable(state.values() for state in optimizer.state.values())]


def room_for(optimizer: AdamOptimizer, ranks: int) -> int:
    """Numbers of `lasting` and of every rank's gradients, in this order."""
    return sum(_room(one) for one in [*lasting(optimizer), *list(optimizer.state) * ranks])


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() // LINE) * LINE


def _places(memory: Tensor, tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """A part of `memory` for each of `tensors`, in their shapes."""
    begin = 0
    for one in tensors:
        yield memory[begin : begin + one.numel()].view(one.shape)
        begin += _room(one)


def neighbours_of(optimizer: AdamOptimizer) -> Neighbours | None:
    """None where the ranks have no memory in common; every one of them must call it."""
    memory = common_memory(room_for(optimizer, dist.get_world_size()))
    return None if memory is None else Neighbours(optimizer, memory)
