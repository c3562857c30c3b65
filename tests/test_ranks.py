"""What the ranks of one run share out, and how each refuses to begin; without starting any."""

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_run import free_port, tiny_config

from nanolm.corpus.batches import IGNORE, TrainingBatches, share
from nanolm.errors import ConfigError, RankGone, RunError
from nanolm.scoring.score import encoded_nats
from nanolm.training import distributed, heartbeat, loss, setup, step
from nanolm.training.loss import Loss, RankLoss
from nanolm.training.plan import step_batches
from nanolm.training.progress import Progress
from nanolm.training.setup import set_up
from nanolm.training.step import Meter, take_step


@pytest.mark.parametrize("rows_", [1, 2, 5, 6, 12])
def test_rows_are_dealt_out(rows_: int) -> None:
    index = np.arange(rows_)
    parts = [share(index, rank, 3) for rank in range(3)]
    assert sorted(np.concatenate(parts)) == list(index)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if rows_ == 12:
        assert {part.sum() for part in parts} == {22}  # long rows as short ones
    assert list(share(index, 0, 1)) == list(index)


def test_the_ranks_batches_are_those_of_one(tmp_path: Path) -> None:
    made = set_up(tiny_config(tmp_path))
    encoded, where = made.encoded["train"], (made.context, 6, 1)
    whole = TrainingBatches(encoded, *where)
    ranks = [TrainingBatches(encoded, *where, rank=rank, world_size=3) for rank in range(3)]
    for one, *parts in zip(whole.epoch(0), *(rank.epoch(0) for rank in ranks), strict=True):
        assert {part.tokens for part in parts} == {one.tokens}
        assert sum(int((part.targets != IGNORE).sum()) for part in parts) == one.tokens
        assert all(len(part.ids) for part in parts)  # without a row a rank has one of padding


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_have_equal_shares_of_tokens_and_the_same_again(tmp_path: Path, world_size: int) -> None:
    made = set_up(tiny_config(tmp_path))
    where = (made.encoded["train"], made.context, 6, 1)
    ranks = [TrainingBatches(*where, rank=rank, world_size=world_size) for rank in range(world_size)]
    again = TrainingBatches(*where, rank=1, world_size=world_size)
    shares = np.zeros(world_size)
    for *parts, twin in zip(*(rank.epoch(1) for rank in ranks), again.epoch(1), strict=True):
        assert np.array_equal(parts[1].ids, twin.ids)
        shares += [(part.targets != IGNORE).sum() for part in parts]
    assert max(shares) / min(shares) < 1.2  # of 42 rows that are very unlike each other
    other = next(TrainingBatches(*where[:3], 2, rank=1, world_size=world_size).epoch(1)).ids
    assert not np.array_equal(next(again.epoch(1)).ids, other)
    assert not np.array_equal(next(again.epoch(1)).ids, next(again.epoch(2)).ids)


def test_each_rank_drops_by_draws_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = set_up(tiny_config(tmp_path, model={"dropout": 0.1}))
    groups = list(itertools.islice(step_batches(made, 0), 2))

    def seeds(rank: int) -> list[int]:
        monkeypatch.setattr(step, "rank", lambda: rank)
        torch.manual_seed(0)
        progress, found = Progress(), []
        for group in groups:
            take_step(made, group, progress, 10, Meter())
            found.append(torch.initial_seed())
        return found

    assert seeds(1) == seeds(1)  # a function of seed, rank and step
    assert len({*seeds(1), *seeds(2), *seeds(0)}) == 5
    assert seeds(0) == [0, 0]  # the first goes on with those of one process


def test_the_ranks_scores_are_those_of_one(tmp_path: Path) -> None:
    made = set_up(tiny_config(tmp_path, model={"context": 5}))
    how = (made.model, made.encoded["train"], 5, torch.device("cpu"))
    parts = [encoded_nats(*how, rank=rank, world_size=3) for rank in range(3)]
    assert np.array_equal(sum(parts), encoded_nats(*how))


def test_a_batch_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "world_size", lambda: 4)
    with pytest.raises(ConfigError, match=r"^batch_size=6: can't be shared by 4 processes; take a multiple of 4"):
        set_up(tiny_config(tmp_path))


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda:1", "device=cuda:1: torchrun gives each process a device of its own; take auto, cpu or cuda"),
        ("cuda", "device=cuda: this machine has no GPU that torch can use; take device=cpu"),
    ],
)
def test_a_device_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, device: str, says: str) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}"), distributed.process_group(device):
        pass


def test_processes_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "JOIN_LIMIT", distributed.timedelta(seconds=1))
    with pytest.raises(RunError, match=r"can't be reached at 127\.0\.0\.1:1"), distributed.process_group("cpu"):
        pass


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A group of one, whose sums over all ranks are its own."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spelling", [0, 50])
def test_both_ends_of_the_embedding_come_together(tmp_path: Path, tied: bool, spelling: int) -> None:
    """Over steps of two passes: the gradients of all parameters are those of one process."""
    made = set_up(tiny_config(tmp_path, model={"tied": tied, "spelling": spelling, "dropout": 0.0}))
    ours, groups = RankLoss(made.model), list(itertools.islice(made.batches.epoch(0), 4))

    def gradients(of: Loss) -> list[torch.Tensor]:
        found = []
        for first in (0, 2):
            made.model.zero_grad()
            for number in (first, first + 1):
                with of.one_pass(last=number > first):
                    of(torch.from_numpy(groups[number].ids), torch.from_numpy(groups[number].targets)).backward()
            found += [parameter.grad.clone() for parameter in made.model.parameters() if parameter.grad is not None]
        return found

    expected = gradients(Loss(made.model))
    assert len(expected) == 2 * len(list(made.model.parameters()))
    torch.testing.assert_close(gradients(ours), expected, rtol=1e-5, atol=1e-5)


def test_small_buckets_are_for_ranks_of_several_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, sizes = set_up(tiny_config(tmp_path)), []

    def wrapped(module: Loss, bucket_cap_mb: int | None, **how: bool) -> Loss:
        sizes.append(bucket_cap_mb)
        return module

    monkeypatch.setattr(loss, "DistributedDataParallel", wrapped)
    monkeypatch.setattr(loss, "BothEnds", Loss)
    monkeypatch.setattr(loss, "world_size", lambda: 4)
    for local in ("2", "4"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        RankLoss(made.model)
    assert sizes == [loss.BUCKET, None]


def test_waiting_says_nothing_and_ends_with_a_rank_that_never_came(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK", 0.01)
    first = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    second = torch.distributed.TCPStore("127.0.0.1", first.port)
    heart = heartbeat.Heartbeat(first, second, "run", 0, 2)
    later = threading.Timer(0.2, second.set, ("said", ""))
    later.start()
    heart.wait(["said"])
    later.join()
    monkeypatch.setattr(heartbeat, "STARTING", 0.1)
    with pytest.raises(RankGone, match=r"^rank 0 and rank 1 of 2 has ended or can't be reached"):
        heart.wait(["never"])
    heart.stop()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 50000ms"), True),
        (RuntimeError("Application timeout caused pair closure"), True),  # of all sums under way but the first
        (torch.distributed.DistBackendError("nccl"), True),
        (RuntimeError("a shape is wrong"), False),
    ],
)
def test_which_errors_are_those_of_a_rank_that_has_gone(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError, gone: bool
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_heart", SimpleNamespace(who_has_gone=lambda: RankGone("rank 1 of 2 has ended")))
    with pytest.raises(RankGone if gone else type(error)), distributed.connected():
        raise error
