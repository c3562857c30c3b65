"""Work of an optimizer shared out: each rank does a part of it, and all get the whole.

In: stacks of matrices, the same on every rank. Out: a function of each matrix, on every rank the same to the bit.
Alone, the whole is done here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SENT = 1 << 20  # bytes that a CPU sends at a time, or one matrix: for the last of them all wait


def shared_out(
    function: Callable[[Tensor], Tensor],
    stacks: Iterable[Tensor],
    shapes: Sequence[tuple[int, int, int]],
    places: dict[int, Tensor | None],
) -> Iterator[Sequence[Tensor]]:
    """`function` of each stack (n, rows, cols), in their order; of several ranks each does some matrices of a stack.

    What is done is on its way to the others while more is computed, or written where they see it. shapes: of all the
    stacks. places: memory in common, kept from call to call, none yet at the first; what came back is good until a rank
    calls again.
    """
    import torch
    import torch.distributed as dist

    from nanolm.common_memory import common_memory

    if not dist.is_available() or not dist.is_initialized():
        yield from (function(stack).unbind() for stack in stacks)
        return
    rank, world_size, results, sent = dist.get_rank(), dist.get_world_size(), [], []
    for number, (stack, dealt) in enumerate(zip(stacks, deal(shapes, world_size), strict=True)):
        size, on_cpu = max(map(len, dealt)), stack.device.type == "cpu"
        shape = (world_size, size, *stack.shape[1:])
        if number not in places:
            places[number] = common_memory(shape, stack.dtype) if on_cpu else None
        common = places[number]
        done = stack.new_zeros(shape) if common is None else common
        together = max(1, SENT // stack[0].nbytes) if on_cpu and common is None else size
        for start in range(0, size, together):
            piece = slice(start, start + together)
            mine = [stack[one] for one in dealt[rank][piece]]  # by no tensor of places, which a GPU would wait for
            if mine:
                done[rank, piece][: len(mine)] = function(torch.stack(mine))
            if common is None:
                sent.append(dist.all_gather(list(done[:, piece]), done[rank, piece], async_op=True))
        where = {one: done[of, place] for of, ones in enumerate(dealt) for place, one in enumerate(ones)}
        results.append([where[one] for one in range(len(stack))])
    for work in sent:
        work.wait()
    if any(place is not None for place in places.values()):
        dist.barrier()
    yield from results


def deal(shapes: Sequence[tuple[int, int, int]], ranks: int) -> list[list[list[int]]]:
    """For each stack the numbers of its matrices that each rank does: equal work for all, by the cost of products.

    The costliest are given away first, each to the rank that has least so far.
    """
    costs = [
        (rows**2 * (rows + 2 * cols), stack, one) for stack, (n, rows, cols) in enumerate(shapes) for one in range(n)
    ]
    loads = [0] * ranks
    dealt: list[list[list[int]]] = [[[] for _ in range(ranks)] for _ in shapes]
    for cost, stack, one in sorted(costs, key=lambda each: -each[0]):
        rank = loads.index(min(loads))
        loads[rank] += cost
        dealt[stack][rank].append(one)
    return dealt
