"""Work of an optimizer shared out: each rank does a part of it, and all get the whole.

In: stacks of matrices, the same on every rank. Out: a function of each matrix, on every rank the same to the bit.
Alone, the whole is done here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shared_out(
    function: Callable[[Tensor], Tensor], stacks: Iterable[Tensor], places: dict[int, Tensor | None]
) -> Iterator[Tensor]:
    """`function` of each stack (n, ...), in their order; of several ranks each does its part of every stack.

    A part is on its way to the others while the next is computed, or written where they see it. The matrices that come
    back may be more than n: the last rank's part is filled up. places: memory that is kept from call to call, none yet
    at the first; a result is good until the next call.
    """
    import torch.distributed as dist

    from nanolm.common_memory import common_memory

    if not dist.is_available() or not dist.is_initialized():
        yield from map(function, stacks)
        return
    rank, world_size, sent = dist.get_rank(), dist.get_world_size(), []
    for number, stack in enumerate(stacks):
        size = -(-len(stack) // world_size)
        shape = (world_size * size, *stack.shape[1:])
        if number not in places:
            places[number] = common_memory(shape, stack.dtype) if stack.device.type == "cpu" else None
        common = places[number]
        whole = stack.new_zeros(shape) if common is None else common
        parts = list(whole.chunk(world_size))
        mine = stack[rank * size : (rank + 1) * size]
        if len(mine):
            parts[rank][: len(mine)] = function(mine)
        sent.append((whole, dist.all_gather(parts, parts[rank], async_op=True) if common is None else None))
    if any(work is None for _, work in sent):
        dist.barrier()
    for whole, work in sent:
        if work:
            work.wait()
        yield whole
