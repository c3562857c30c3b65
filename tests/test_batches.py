"""Batches: every token is a target once, nearly all places are real, and the order is the epoch's own."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanolm.corpus.batches import Batch, TrainingBatches, evaluation_batches
from nanolm.model.config import IGNORE
from nanolm.tokenizer.base import PAD


class Encoded:
    """Documents of the given numbers of ids, no two ids alike, so that an id says where it comes from."""

    def __init__(self, sizes: list[int]) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.ids = np.arange(10, 10 + sum(sizes), dtype=np.uint32)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pairs(self) -> list[tuple[int, int]]:
        """Every (input, target) of the split."""
        spans = [self.ids[start:end].tolist() for start, end in pairwise(self.offsets)]
        return [pair for span in spans for pair in pairwise(span)]


SIZES = st.lists(st.integers(2, 40), max_size=40)
CONTEXTS = st.integers(1, 20)
TYPICAL = Encoded(np.random.default_rng(0).integers(20, 130, 20_000).tolist())


def scored(batches: list[Batch]) -> list[tuple[int, int]]:
    """The (input, target) pairs of the batches; checks dtypes, padding and the count of tokens on the way."""
    found = []
    for batch in batches:
        assert batch.ids.dtype == batch.targets.dtype == np.int64
        assert batch.ids.shape == batch.targets.shape
        real = batch.targets != IGNORE
        assert batch.tokens == real.sum() > 0
        assert not real[batch.ids == PAD].any()
        assert (np.diff((batch.ids != PAD).astype(int), axis=1) <= 0).all()  # padding only on the right
        found += list(zip(batch.ids[real].tolist(), batch.targets[real].tolist(), strict=True))
    return sorted(found)


@given(SIZES, CONTEXTS, st.integers(1, 7), st.sampled_from([1, 2, 8]))
def test_an_epoch_trains_on_every_token_once(sizes: list[int], context: int, batch_size: int, multiple: int) -> None:
    encoded = Encoded(sizes)
    training = TrainingBatches(encoded, context, batch_size, data_seed=1, multiple=multiple)
    for epoch in (0, 1):
        batches = list(training.epoch(epoch))
        assert scored(batches) == encoded.pairs()
        assert len(batches) == len(training)
        assert sum(batch.tokens for batch in batches) == training.tokens
        assert all(len(batch.ids) <= batch_size for batch in batches)
        assert all(batch.ids.shape[1] % multiple == 0 or batch.ids.shape[1] == context for batch in batches)
        assert all((batch.ids != PAD).sum(axis=1).max() <= context for batch in batches)
        assert sum(len(batch.ids) < batch_size for batch in batches) <= 1


@given(SIZES, CONTEXTS, st.integers(1, 200))
def test_evaluation_scores_every_token_once(sizes: list[int], context: int, batch_tokens: int) -> None:
    encoded = Encoded(sizes)
    batches = list(evaluation_batches(encoded, context, batch_tokens))
    assert scored(list(batches)) == encoded.pairs()
    for batch in batches:
        assert batch.ids.shape[1] <= context
        assert batch.ids.size <= max(batch_tokens, context)
        documents = np.searchsorted(encoded.offsets, batch.starts, side="right") - 1
        starts, ends = encoded.offsets[documents] + 10, encoded.offsets[documents + 1] + 10
        assert ((batch.ids >= starts[:, None]) & (batch.ids < ends[:, None]) | (batch.ids == PAD)).all()
    widths = [batch.ids.shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)


def test_evaluation_windows_give_half_a_context_before_each_token() -> None:
    encoded = Encoded([31])  # 30 targets in windows of 12 inputs: 0-11, 6-17, 12-23, 18-29
    rows = [
        (ids, targets)
        for batch in evaluation_batches(encoded, 12)
        for ids, targets in zip(batch.ids, batch.targets, strict=True)
    ]
    assert [ids[0] - 10 for ids, _ in rows] == [0, 6, 12, 18]
    assert [(targets == IGNORE).sum() for _, targets in rows] == [0, 6, 6, 6]
    assert [targets[-1] - 10 for _, targets in rows] == [12, 18, 24, 30]


def test_training_windows_overlap_by_one_id() -> None:
    rows = [batch.ids[0, :12] - 10 for batch in TrainingBatches(Encoded([31]), 12, 1, 0).epoch(0)]
    assert sorted((row[0], row[row >= 0].max()) for row in rows) == [(0, 11), (12, 23), (24, 29)]


def test_a_long_document_is_cut_elsewhere_in_every_epoch_but_the_first() -> None:
    def cuts(epoch: int, reshuffle: bool = True) -> tuple[int, ...]:
        training = TrainingBatches(Encoded([2005, 10]), 100, 4, 0, reshuffle=reshuffle)
        return tuple(sorted(int(start) for batch in training.epoch(epoch) for start in batch.starts))

    found = {cuts(epoch) for epoch in range(1, 30)}
    assert len(found) > 20
    assert all(start % 100 == 1 for start in cuts(0)[:-1])
    assert cuts(7, reshuffle=False) == cuts(0)
    assert cuts(7) == cuts(7)
    assert all(len(starts) == len(cuts(0)) for starts in found)  # as many rows, so that a plan in steps holds


def test_without_reshuffling_every_epoch_is_the_first() -> None:
    plans = [TrainingBatches(TYPICAL, 128, 32, 0, reshuffle=False).plan(epoch) for epoch in (0, 1)]
    assert all((one == other).all() for one, other in zip(*plans, strict=True))
    assert all(
        (one == other).all() for one, other in zip(plans[0], TrainingBatches(TYPICAL, 128, 32, 0).plan(0), strict=True)
    )


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int, start: int = 0) -> list[list[int]]:
        return [batch.ids[:, 0].tolist() for batch in TrainingBatches(TYPICAL, 128, 32, seed).epoch(epoch, start)]

    first = order(1, 0)
    assert order(1, 0) == first
    assert order(1, 0, start=600) == first[600:]
    assert order(1, 0, start=len(first)) == []
    assert len({str(rows) for rows in (first, order(1, 1), order(2, 0))}) == 3
    assert {len(rows) for rows in order(1, 1)} == {len(rows) for rows in first}


def test_no_two_epochs_share_their_batches() -> None:
    training = TrainingBatches(TYPICAL, 128, 32, 0)
    first, second = ({frozenset(rows.tolist()) for rows in training.plan(epoch)} for epoch in (0, 1))
    assert not first & second


@pytest.mark.parametrize(("multiple", "least"), [(1, 0.97), (8, 0.93)])
def test_nearly_all_of_a_batch_is_real(multiple: int, least: float) -> None:
    batches = list(TrainingBatches(TYPICAL, 128, 32, 0, multiple).epoch(0))
    assert sum(batch.tokens for batch in batches) / sum(batch.ids.size for batch in batches) >= least
    lengths = [batch.ids.shape[1] for batch in batches]
    assert abs(np.corrcoef(range(len(lengths)), lengths)[0, 1]) < 0.2  # short and long ones are mixed


def test_an_empty_split_has_no_batches() -> None:
    training = TrainingBatches(Encoded([]), 8, 4, 0)
    assert (len(training), training.tokens, list(training.epoch(0))) == (0, 0, [])
    assert list(evaluation_batches(Encoded([]), 8)) == []
