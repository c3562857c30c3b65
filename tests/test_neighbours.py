"""Ranks on one machine: the memory that they have in common, and what they add up and share out in it.

Threads take the part of processes here; test_parallel has real ones.
"""

import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanolm import common_memory
from nanolm.optim.sharing import deal, shared_out
from nanolm.training import neighbours
from nanolm.training.neighbours import Neighbours, sizes

RANKS = 3
Ranks = Callable[[Callable[[int], list[Tensor]]], list[list[Tensor]]]
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def as_ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """What a function returns on each of RANKS ranks at once."""
    here, meeting = threading.local(), threading.Barrier(RANKS, timeout=20)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: here.rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: RANKS)
    monkeypatch.setattr(dist, "barrier", meeting.wait)

    def run(function: Callable[[int], list[Tensor]]) -> list[list[Tensor]]:
        def on(rank: int) -> list[Tensor]:
            here.rank = rank
            return function(rank)

        with ThreadPoolExecutor(RANKS) as pool:
            return list(pool.map(on, range(RANKS)))

    return run


def test_gradients_are_the_mean_of_all_ranks(as_ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit the same on each, step after step, in blocks that reach over several of them."""
    monkeypatch.setattr(neighbours, "BLOCK", 50)
    shapes = [(7, 30), (5,), (1,), (40,), (16, 4)]
    torch.manual_seed(0)
    given = torch.randn(2, RANKS, sum(torch.Size(shape).numel() for shape in shapes))
    alike = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    memory = torch.zeros(RANKS, sum(sizes(alike)))

    def two_steps(rank: int) -> list[Tensor]:
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        ours, found = Neighbours(parameters, memory), []
        for step in given:
            cut = step[rank].split([one.numel() for one in parameters])
            for number, (parameter, values) in enumerate(zip(parameters, cut, strict=True)):
                parameter.grad = None if number == 3 and rank == 1 else values.view_as(parameter).clone()
            ours.average()
            found.append(torch.cat([one.grad.flatten() for one in parameters if one.grad is not None]))
        return found

    results = as_ranks(two_steps)
    places = [torch.Size(shape).numel() for shape in shapes]
    given[:, 1, sum(places[:3]) : sum(places[:4])] = 0  # which rank 1 had no gradient of
    torch.testing.assert_close(torch.stack(results[0]), given.mean(1))
    assert all(torch.equal(one, first) for other in results for one, first in zip(other, results[0], strict=True))


@pytest.mark.parametrize("count", [1, 4, 6])
def test_work_is_shared_out_in_common_memory(as_ranks: Ranks, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Each rank does a part of every stack, and has the whole, also at the next call with the same places."""
    common, asked, done = dict[tuple[int, ...], Tensor](), threading.Lock(), list[int]()

    def memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        with asked:
            return common.setdefault(shape, torch.zeros(shape, dtype=dtype))

    def double(part: Tensor) -> Tensor:
        done.append(len(part))
        return part * 2

    monkeypatch.setattr(common_memory, "common_memory", memory)
    stacks = [torch.randn(count, 2, 3), torch.randn(2 * count, 4, 4)]
    shapes = [(count, 2, 3), (2 * count, 4, 4)]

    def twice(rank: int) -> list[Tensor]:
        places: dict[int, Tensor | None] = {}
        list(shared_out(double, stacks, shapes, places))
        dist.barrier()
        again = shared_out(double, [stack + 1 for stack in stacks], shapes, places)
        return [torch.stack(list(matrices)) for matrices in again]

    for found in as_ranks(twice):
        for whole, stack in zip(found, stacks, strict=True):
            assert torch.equal(whole, (stack + 1) * 2)
    assert sum(done) == 2 * 3 * count  # each matrix once a call


@linux
def test_memory_of_another_process_is_known_by_its_name() -> None:
    descriptor = os.memfd_create("one")
    os.ftruncate(descriptor, 8)
    place = f"/proc/{os.getpid()}/fd/{descriptor}"
    again = common_memory._opened(place, "one", 8)
    with mmap.mmap(descriptor, 8) as ours, mmap.mmap(again, 8) as theirs:
        ours[3] = 7
        assert theirs[3] == 7
    os.close(again)
    assert common_memory._opened(place, "another", 8) == -1  # of a container with the same numbers
    assert common_memory._opened(place, "one", 16) == -1  # of a rank with another model
    os.close(descriptor)
    assert common_memory._opened(place, "one", 8) == -1


@linux
def test_ranks_of_several_machines_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        memory = common_memory.common_memory((2, 3), torch.float32)
        assert memory is not None
        assert torch.equal(memory, torch.zeros(2, 3))
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        assert common_memory.common_memory((2, 3), torch.float32) is None  # LOCAL_WORLD_SIZE is 1
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_ranks_get_equal_work(ranks: int) -> None:
    """Of blocks of 512 dims: 12 square matrices and 9 that cost twice as much."""
    shapes = [(12, 512, 512), (9, 512, 1365)]
    dealt = deal(shapes, ranks)
    assert [sorted(chain(*parts)) for parts in dealt] == [list(range(12)), list(range(9))]
    work = [len(dealt[0][rank]) * 3 * 512 + len(dealt[1][rank]) * (512 + 2 * 1365) for rank in range(ranks)]
    assert max(work) < 1.17 * sum(work) / ranks
