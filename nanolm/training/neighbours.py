"""Ranks on one machine: their gradients lie in memory that all of them see, and each adds up a part of them in place.

In: the parameters of a model on a CPU. Out: their gradients, the mean over all ranks, on each the same to the bit. What
is sent through sockets instead takes five times as long, of the cores that train.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanolm.common_memory import common_memory

BLOCK = 1 << 16  # numbers that are added up together, and stay in a core's cache
LINE = 16  # numbers of a line of the cache, at which each gradient begins


class Neighbours:
    """memory: (ranks, numbers) of fp32; a row holds the gradients of one rank, in the order of the parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], memory: Tensor) -> None:
        self.parameters, self.memory = parameters, memory
        places = memory[dist.get_rank()].split(sizes(parameters))
        self.own = [place[: one.numel()].view_as(one) for place, one in zip(places, parameters, strict=True)]

    def average(self) -> None:
        """Makes each gradient the mean over all ranks, each of which must call it."""
        for parameter, own in zip(self.parameters, self.own, strict=True):
            if parameter.grad is None:
                own.zero_()
            else:
                own.copy_(parameter.grad)
            parameter.grad = own
        dist.barrier()  # all gradients are there
        ranks = dist.get_world_size()
        for block in self.memory.tensor_split(ranks, dim=1)[dist.get_rank()].split(BLOCK, dim=1):
            first, *others = block
            for other in others:
                first.add_(other)
            first.div_(ranks)
            for other in others:
                other.copy_(first)
        dist.barrier()  # all parts are done


def sizes(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Numbers that the gradient of each has room for."""
    return [-(-one.numel() // LINE) * LINE for one in parameters]


def neighbours_of(parameters: Sequence[nn.Parameter]) -> Neighbours | None:
    """None where the ranks have no memory in common; every one of them must call it."""
    memory = common_memory((dist.get_world_size(), sum(sizes(parameters))), torch.float32)
    return None if memory is None else Neighbours(parameters, memory)
