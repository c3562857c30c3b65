"""Ids -> batches: rows of like length, for training (another order every epoch) and evaluation (each token once).

In: one split's ids and offsets, a context, a batch size. Out: int64 arrays. Which rows go together (`plan`) is kept
apart from building them. Rows are padded on the right: causal attention needs no mask. Knows nothing of models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nanolm.model.config import IGNORE
from nanolm.tokenizer.base import PAD

POOL = 100  # batches whose rows are sorted by length together


class Ids(Protocol):
    """What is needed of an encoded split: document i is ids[offsets[i] : offsets[i + 1]], <BOS> ... <EOS>."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int: ...


@dataclass
class Batch:
    """Rows of documents. `targets` are the ids one place on; IGNORE on padding and where another row scores."""

    ids: np.ndarray  # int64 (B, T), PAD on the right
    targets: np.ndarray  # int64 (B, T)
    tokens: int  # the targets that count, those in other ranks' shares of the batch too
    starts: np.ndarray  # int64, where in the split's ids the first counted target of each row lies


class Rows:
    """The windows of at most `context` inputs over every document, each `stride` on from the one before.

    `starts` into ids, `lengths` in inputs, `skips` in targets, `documents`: int64 (n,). With `chance`, a
    random share of the room that a document leaves in its last window is left in its first one instead.
    """

    def __init__(self, encoded: Ids, context: int, stride: int, chance: np.random.Generator | None = None) -> None:
        self.ids, self.context, offsets = encoded.ids, context, np.asarray(encoded.offsets)
        sizes = np.diff(offsets) - 1  # targets a document: all ids but <BOS>
        windows = 1 + np.maximum(0, -(-(sizes - context) // stride))
        self.documents = np.repeat(np.arange(len(sizes)), windows)
        first = np.repeat(np.cumsum(windows) - windows, windows)  # the row where a row's document begins
        shifts = (np.arange(len(self.documents)) - first) * stride
        if chance is not None:
            room = np.where(windows > 1, context + (windows - 1) * stride - sizes, 0)
            shifts -= chance.integers(room + 1)[self.documents]
        begins = np.maximum(0, shifts)
        self.starts = offsets[self.documents] + begins
        self.lengths = np.minimum(shifts + context, sizes[self.documents]) - begins
        self.skips = np.where(shifts > 0, context - stride, 0)  # the first targets, scored by the row before

    def batch(self, index: np.ndarray, multiple: int = 1, rows: int = 0) -> Batch:
        """The rows of `index` side by side, padded to the longest rounded up to a `multiple`, or to the context, and
        with rows of nothing else to at least `rows`. `index` may be empty where `rows` isn't."""
        lengths, skips = self.lengths[index], self.skips[index]
        longest = max(1, int(lengths.max(initial=0)))
        places = np.arange(min(self.context, -(-longest // multiple) * multiple))  # (T,)
        real = places < lengths[:, None]  # (B, T)
        where = self.starts[index, None] + np.where(real, places, 0)
        ids, targets = (self.ids[place].astype(np.int64) for place in (where, where + 1))  # unsigned holds no IGNORE
        ids[~real] = PAD
        targets[~real | (places < skips[:, None])] = IGNORE
        if len(ids) < rows:
            below = ((0, rows - len(ids)), (0, 0))
            ids, targets = np.pad(ids, below, constant_values=PAD), np.pad(targets, below, constant_values=IGNORE)
        return Batch(ids, targets, self.targets(index), self.starts[index] + 1 + skips)

    def targets(self, index: np.ndarray) -> int:
        """How many targets of these rows count."""
        return int((self.lengths[index] - self.skips[index]).sum())


class TrainingBatches:
    """Batches of `batch_size` rows (an epoch's last may be smaller). Longer documents are cut into rows of `context`
    inputs that overlap by one id, so that every token but <BOS> is a target once an epoch; in every epoch but the first
    (with `reshuffle`) they are cut elsewhere.

    rank, world_size: which share of each batch is built here; equal shares of rows, and nearly equal ones of tokens.
    """

    def __init__(
        self,
        encoded: Ids,
        context: int,
        batch_size: int,
        data_seed: int,
        multiple: int = 1,
        reshuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.encoded, self.rows = encoded, Rows(encoded, context, stride=context)
        self.batch_size, self.data_seed, self.multiple, self.reshuffle = batch_size, data_seed, multiple, reshuffle
        self.rank, self.world_size = rank, world_size
        self.tokens = int(self.rows.lengths.sum())

    def __len__(self) -> int:
        return -(-len(self.rows.starts) // self.batch_size)

    def rows_of(self, epoch: int) -> Rows:
        """The rows of an epoch, as many as in every other."""
        if epoch == 0 or not self.reshuffle or len(self.rows.starts) == len(self.encoded):
            return self.rows
        chance = np.random.default_rng([self.data_seed, epoch, 1])
        return Rows(self.encoded, self.rows.context, self.rows.context, chance)

    def plan(self, epoch: int, rows: Rows | None = None) -> list[np.ndarray]:
        """Which of `rows`, those of the epoch, each batch has, a function of (data_seed, epoch) alone: a permutation of
        its own (without `reshuffle` that of epoch 0), cut into pools, each sorted by length and cut into batches; then
        the batches in random order."""
        chance = np.random.default_rng([self.data_seed, epoch if self.reshuffle else 0])
        lengths = (rows or self.rows_of(epoch)).lengths
        order = chance.permutation(len(lengths))
        size = POOL * self.batch_size
        for first in range(0, len(order), size):
            pool = order[first : first + size]
            order[first : first + size] = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]
        return [batches[place] for place in chance.permutation(len(batches))]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; those before are planned but not built.

        With a `multiple` above 1, which is there to have few shapes, the one smaller batch is filled up with padding.
        """
        rows, least = self.rows_of(epoch), self.batch_size // self.world_size if self.multiple > 1 else 1
        for index in self.plan(epoch, rows)[start:]:
            batch = rows.batch(share(index, self.rank, self.world_size), self.multiple, least)
            batch.tokens = rows.targets(index)
            yield batch


def share(index: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """A rank's rows of those that are sorted by length: dealt out to and fro, as 0 1 2 2 1 0 0 1 2 ..."""
    lane = np.arange(len(index)) % (2 * world_size)
    return index[np.minimum(lane, 2 * world_size - 1 - lane) == rank]


def evaluation_batches(
    encoded: Ids, context: int, batch_tokens: int = 2048, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every token but <BOS> as a target exactly once, longest rows first, at most `batch_tokens` places a batch; of
    several ranks each gets every so many-th batch.

    Documents longer than the context are cut into windows that overlap by half of it: a token is scored with at least
    half a context before it, and the overlap is scored in the earlier window only.
    """
    rows = Rows(encoded, context, stride=context - context // 2)
    order = np.argsort(-rows.lengths, kind="stable")
    number = 0
    while len(order):
        size = max(1, batch_tokens // int(rows.lengths[order[0]]))
        if number % world_size == rank:
            yield rows.batch(order[:size])
        order = order[size:]
        number += 1
