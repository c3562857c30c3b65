"""The keys and values of the tokens read so far, so that a decoding step reads only the newest token.

In: keys and values of new tokens, block by block. Out: those of all tokens so far. Rows may be padded on the left
(`starts`), reordered, repeated or left out (`select`). Knows neither tokens nor the model.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from nanolm.model.config import check_fits
from nanolm.model.ngrams import NOTHING

ROOM = 64  # columns to come that are made at a time: rows that lie close together are read faster


class Columns(NamedTuple):
    """What one block sees of a cache in one step: N columns (batch, kv_heads, N, head_dims), the last T of them new."""

    keys: Tensor
    values: Tensor
    new_keys: Tensor  # the last T columns of `keys`
    new_values: Tensor

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Fills the T new columns (batch, kv_heads, T, head_dims); returns all N."""
        self.new_keys.copy_(keys)
        self.new_values.copy_(values)
        return self.keys, self.values


class Cache:
    """Room for `context` tokens in each of `batch` rows; `length` of them are filled.

    shape: (nblocks, batch, kv_heads, context, head_dims). keys, values: the same, but with the columns made so far.
    starts: (batch,) columns of left padding, or None. last: (batch, n) ids, the newest; NOTHING before the first.
    """

    def __init__(
        self, shape: tuple[int, int, int, int, int], like: Tensor, starts: Optional[Tensor] = None, last: int = 0
    ) -> None:
        nblocks, batch, kv_heads, self.context, head_dims = shape
        self.keys = like.new_empty(nblocks, batch, kv_heads, 0, head_dims)
        self.values = torch.empty_like(self.keys)
        self.length = 0
        self.last = torch.full((batch, last), NOTHING, device=like.device)
        self.starts = starts if starts is not None and bool(starts.any()) else None
        self.writers = Writers(batch, self.context)

    def follow(self, ids: Tensor) -> Tensor:
        """The next ids (B, T) with the `last` ones before them: (B, n + T)."""
        if not self.last.shape[1]:
            return ids
        text = torch.cat((self.last, ids), 1)
        self.last = text[:, ids.shape[1] :]
        return text

    def columns(self, tokens: int) -> list[Columns]:
        """For each block the columns of all tokens so far and of the next `tokens`, which it is to put.

        Raises ConfigError where they exceed the context.
        """
        per_block = (table.unbind(0) for table in self.tables(tokens))
        return [Columns(*of_block) for of_block in zip(*per_block, strict=True)]

    def tables(self, tokens: int) -> Columns:
        """The same for all blocks at once, which stand in front: (nblocks, batch, kv_heads, N, head_dims)."""
        start, end = self.length, self.length + tokens
        check_fits(self.context, end)
        if end > self.keys.shape[3]:
            room = min(end + ROOM, self.context)
            self.keys, self.values = (_with_room(old[:, :, :, :start], room) for old in (self.keys, self.values))
        self.length = end
        keys, values = self.keys[:, :, :, :end], self.values[:, :, :, :end]
        return Columns(keys, values, keys[:, :, :, start:], values[:, :, :, start:])

    def select(self, index: Tensor) -> None:
        """Row i becomes what row index[i] was; index may be shorter or longer than the batch."""
        rows, room = self.keys.shape[1], self.keys.shape[3]
        differs = self.writers.select(index, self.length)
        if len(index) == rows:
            self._copy(index, differs)
        else:
            filled = (old[:, index, :, : self.length] for old in (self.keys, self.values))
            self.keys, self.values = (_with_room(old, room) for old in filled)
        self.last = self.last[index]
        if self.starts is not None:
            self.starts = self.starts[index]
            self._drop_padding(self.starts)

    def _drop_padding(self, starts: Tensor) -> None:
        """Drops the columns that are padding in every row: once longer rows have left, the others need their room."""
        padding = int(starts.min())
        if padding:
            self.keys, self.values = self.keys[:, :, :, padding:], self.values[:, :, :, padding:]
            self.length -= padding
            self.writers.drop(padding)
            self.starts = starts - padding if bool((starts > padding).any()) else None

    def _copy(self, index: Tensor, differs: Tensor) -> None:
        """Copies the columns from the first that `differs` (batch, length), for each row that has one.

        A CPU copies row by row, several times as fast as by index; a GPU all at once.
        """
        rows = differs.any(1).nonzero()[:, 0]
        starts = differs.int().argmax(1).tolist()
        if self.keys.is_cuda and len(rows):
            first, rows = min(starts[row] for row in rows.tolist()), rows.to(index.device)
            for table in (self.keys, self.values):
                table[:, rows, :, first : self.length] = table[:, index[rows], :, first : self.length]
            return
        sources, moved = index.tolist(), rows.tolist()
        for table in (self.keys, self.values):
            news = [table[:, sources[row], :, starts[row] : self.length] for row in moved]
            news = [new.clone() if sources[row] in moved else new for row, new in zip(moved, news, strict=True)]
            for row, new in zip(moved, news, strict=True):
                table[:, row, :, starts[row] : self.length] = new


class Writers:
    """Which row wrote each column of each row. Beams soon share their first part, which need not be copied again."""

    def __init__(self, batch: int, context: int) -> None:
        self.rows = torch.zeros(batch, context, dtype=torch.int32)
        self.known = 0  # the columns noted in `rows`; every row has written the later ones itself

    def select(self, index: Tensor, length: int) -> Tensor:
        """Takes the rows of `index`; bool (batch, length): which columns of each row are now another row's.

        With more or fewer rows than before nothing is the same: bool (0, length).
        """
        before = self.rows
        before[:, self.known : length] = torch.arange(len(before), dtype=before.dtype).unsqueeze(1)
        self.rows, self.known = before[index.cpu()], length
        if len(index) != len(before):
            return torch.zeros(0, length, dtype=torch.bool)
        return self.rows[:, :length] != before[:, :length]

    def drop(self, columns: int) -> None:
        """Forgets so many columns on the left."""
        self.rows = self.rows.roll(-columns, 1)
        self.known -= columns


def _with_room(filled: Tensor, columns: int) -> Tensor:
    """The same keys or values (nblocks, batch, kv_heads, length, head_dims) in a table of so many columns."""
    new = filled.new_empty(*filled.shape[:3], columns, filled.shape[4])
    new[:, :, :, : filled.shape[3]] = filled
    return new
