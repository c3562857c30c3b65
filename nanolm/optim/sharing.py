"""Work of an optimizer shared out: each rank does a part of it, and all get the whole.

In: stacks of matrices, the same on every rank. Out: a function of each matrix, on every rank the same to the bit.
Alone, the whole is done here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SENT = 1 << 20  # bytes that a CPU sends at a time, or one matrix: for the last of them all wait


def shared_out(
    function: Callable[[Tensor], Tensor], stacks: Iterable[Tensor], shapes: Sequence[tuple[int, int, int]]
) -> Iterator[Sequence[Tensor]]:
    """`function` of each stack (n, rows, cols), in their order; of several ranks each does some matrices of a stack.

    What is done is on its way to the others while more is computed. shapes: of all the stacks.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        yield from (function(stack).unbind() for stack in stacks)
        return
    rank, world_size, results, sent = dist.get_rank(), dist.get_world_size(), [], []
    owners = iter(deal([cost_of(*shape) for n, *shape in shapes for _ in range(n)], world_size))
    for stack in stacks:
        of = list(islice(owners, len(stack)))
        dealt = [[one for one, owner in enumerate(of) if owner == each] for each in range(world_size)]
        size, on_cpu = max(map(len, dealt)), stack.device.type == "cpu"
        done = stack.new_zeros(world_size, size, *stack.shape[1:])
        together = max(1, SENT // stack[0].nbytes) if on_cpu else size
        for start in range(0, size, together):
            piece = slice(start, start + together)
            mine = [stack[one] for one in dealt[rank][piece]]  # by no tensor of places, which a GPU would wait for
            if mine:
                done[rank, piece][: len(mine)] = function(torch.stack(mine))
            sent.append(dist.all_gather(list(done[:, piece]), done[rank, piece], async_op=True))
        where = {one: done[each, place] for each, ones in enumerate(dealt) for place, one in enumerate(ones)}
        results.append([where[one] for one in range(len(stack))])
    for work in sent:
        work.wait()
    yield from results


def cost_of(rows: int, cols: int) -> int:
    """Of a matrix made orthogonal, in multiplications: what its products have in common."""
    return rows**2 * (rows + 2 * cols)


def deal(costs: Sequence[int], ranks: int) -> list[int]:
    """The rank that does each: equal work for all. The costliest are given away first, to whom has least so far."""
    loads, owners = [0] * ranks, [0] * len(costs)
    for one in sorted(range(len(costs)), key=lambda one: -costs[one]):
        owners[one] = loads.index(min(loads))
        loads[owners[one]] += costs[one]
    return owners
