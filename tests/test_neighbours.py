"""Ranks on one machine: the memory that they have in common, and the model in it; and what ranks share out.

Threads take the part of processes here; test_parallel has real ones.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanolm import common_memory
from nanolm.config import build
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.optim import sharing
from nanolm.optim.optimizer import AdamOptimizer
from nanolm.optim.sharing import cost_of, deal, shared_out
from nanolm.training import neighbours
from nanolm.training.loss import NeighbourLoss
from nanolm.training.neighbours import Neighbours, lasting, room_for

RANKS = 3
STEPS, LIMIT = 4, 100.0
Ranks = Callable[[Callable[[int], list[Tensor]]], list[list[Tensor]]]
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def as_ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """What a function returns on each of RANKS ranks at once."""
    here, meeting = threading.local(), threading.Barrier(RANKS, timeout=20)
    monkeypatch.setattr(dist, "is_initialized", lambda: hasattr(here, "rank"))
    monkeypatch.setattr(dist, "get_rank", lambda: here.rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: RANKS)
    monkeypatch.setattr(dist, "barrier", meeting.wait)
    numbers = torch.zeros(RANKS)

    def add_up(number: Tensor) -> Tensor:
        numbers[here.rank] = number
        meeting.wait()
        total = numbers.sum()
        meeting.wait()
        return total

    monkeypatch.setattr(neighbours, "add_up", add_up)

    def run(function: Callable[[int], list[Tensor]]) -> list[list[Tensor]]:
        def on(rank: int) -> list[Tensor]:
            here.rank = rank
            return function(rank)

        with ThreadPoolExecutor(RANKS) as pool:
            return list(pool.map(on, range(RANKS)))

    return run


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("idle", [False, True])
def test_ranks_with_one_model_in_common_train_as_one_process(
    as_ranks: Ranks, monkeypatch: pytest.MonkeyPatch, name: str, idle: bool
) -> None:
    """Each moves a part of the weights, which are the first one's at the beginning; idle: one has none to move."""
    if idle:
        monkeypatch.setattr(neighbours, "deal", lambda costs, ranks: [number % 2 for number in range(len(costs))])
    monkeypatch.setattr(neighbours, "BLOCK", 50)
    config = build("optim", {"name": name})

    def parts(seed: int) -> tuple[Transformer, AdamOptimizer]:
        torch.manual_seed(seed)
        model = Transformer(ModelConfig(dims=16, heads=2, nblocks=2, context=8), 30, 8)
        optimizer = config.build(model)
        assert set(optimizer.state) == set(model.parameters())
        return model, optimizer

    optimizer = parts(0)[1]
    alone = list(optimizer.state)
    given = [[[size * torch.randn_like(one) for one in alone] for _ in range(RANKS)] for size in range(1, STEPS + 1)]
    given[1][1][3].zero_()
    norms = []
    for step in given:
        for place, parameter in enumerate(alone):
            parameter.grad = torch.stack([gradients[place] for gradients in step]).mean(0)
        norms.append(nn.utils.clip_grad_norm_(alone, LIMIT))
        optimizer.step()
    assert min(norms) < LIMIT < max(norms)
    ranks, memory = [parts(rank) for rank in range(RANKS)], torch.zeros(room_for(optimizer, RANKS))

    def train(rank: int) -> list[Tensor]:
        model, own = ranks[rank]
        parameters = list(own.state)
        ours, found, moved = NeighbourLoss(model, Neighbours(own, memory)), [], set[int]()
        for number, step in enumerate(given):
            with ours.one_pass(last=True):
                for place, (parameter, values) in enumerate(zip(parameters, step[rank], strict=True)):
                    parameter.grad = None if (number, rank, place) == (1, 1, 3) else values.clone()
            moved |= {place for place, parameter in enumerate(parameters) if parameter.grad is not None}
            found.append(ours.clip(LIMIT))
            time.sleep(0.01 * (rank == 1))
            own.step()
            ours.end_step()
            own.zero_grad()
        return [torch.stack(found), torch.tensor(sorted(moved)), *(one.clone() for one in lasting(own))]

    results = as_ranks(train)
    assert sorted(torch.cat([moved for _, moved, *_ in results]).tolist()) == list(range(len(alone)))
    for found, _, *kept in results:
        torch.testing.assert_close(found, torch.stack(norms))
        torch.testing.assert_close(kept, lasting(optimizer), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 4, 6])
@pytest.mark.parametrize("sent", [1, 1 << 20])
def test_work_is_shared_out(as_ranks: Ranks, monkeypatch: pytest.MonkeyPatch, count: int, sent: int) -> None:
    """Each rank does a part of every stack, sends it in pieces of `sent` bytes, and has the whole."""
    here, meeting, said = threading.local(), threading.Barrier(RANKS, timeout=20), dict[tuple[int, int], Tensor]()

    def all_gather(outputs: list[Tensor], own: Tensor, async_op: bool) -> SimpleNamespace:
        here.calls = call = getattr(here, "calls", 0) + 1
        said[call, dist.get_rank()] = own

        def wait() -> None:
            meeting.wait()
            for rank, output in enumerate(outputs):
                output.copy_(said[call, rank])

        return SimpleNamespace(wait=wait)

    def double(part: Tensor) -> Tensor:
        done.append(len(part))
        return part * 2

    done = list[int]()
    monkeypatch.setattr(dist, "all_gather", all_gather)
    monkeypatch.setattr(sharing, "SENT", sent)
    stacks = [torch.randn(count, 2, 3), torch.randn(2 * count, 4, 4)]
    shapes = [(count, 2, 3), (2 * count, 4, 4)]
    for found in as_ranks(lambda rank: [torch.stack(list(one)) for one in shared_out(double, stacks, shapes)]):
        for whole, stack in zip(found, stacks, strict=True):
            assert torch.equal(whole, stack * 2)
    assert sum(done) == 3 * count  # each matrix once


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
        memory = common_memory.common_memory(6)
        assert memory is not None
        assert torch.equal(memory, torch.zeros(6))
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        assert common_memory.common_memory(6) is None  # LOCAL_WORLD_SIZE is 1
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_ranks_get_equal_work(ranks: int) -> None:
    """Of blocks of 512 dims: 12 square matrices and 9 that cost twice as much."""
    costs = [cost_of(512, 512)] * 12 + [cost_of(512, 1365)] * 9
    owners = deal(costs, ranks)
    work = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(ranks)]
    assert max(work) < 1.17 * sum(work) / ranks
