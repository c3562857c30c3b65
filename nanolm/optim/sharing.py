"""Work of an optimizer shared out: each rank does a part of it, and all get the whole.

In: stacks of matrices, the same on every rank. Out: a function of each matrix, on every rank the same to the bit.
Alone, the whole is done here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shared_out(function: Callable[[Tensor], Tensor], stacks: Iterable[Tensor]) -> Iterator[Tensor]:
    """`function` of each stack (n, ...), in their order; of several ranks each does its part of every stack.

    A part is on its way to the others while the next is computed. The matrices that come back may be more than n: rows
    of zeros fill the last rank's part.
    """
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        yield from map(function, stacks)
        return
    rank, world_size, sent = dist.get_rank(), dist.get_world_size(), []
    for stack in stacks:
        size = -(-len(stack) // world_size)
        part = stack.new_zeros((size, *stack.shape[1:]))
        mine = stack[rank * size : (rank + 1) * size]
        if len(mine):
            part[: len(mine)] = function(mine)
        whole = stack.new_empty((world_size * size, *stack.shape[1:]))
        sent.append((whole, dist.all_gather(list(whole.chunk(world_size)), part, async_op=True)))
    for whole, work in sent:
        work.wait()
        yield whole
