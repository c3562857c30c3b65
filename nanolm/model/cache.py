"""The keys and values of the tokens read so far, so that a decoding step reads only the newest token.

In: keys and values of new tokens, block by block. Out: those of all tokens so far. Rows may be padded on the left
(`starts`), reordered or repeated (`select`). Knows neither tokens nor the model.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

ROOM = 64  # columns to come that are made at a time: rows that lie close together are read faster


class Columns(NamedTuple):
    """What the blocks of one step see of a cache: N columns (nblocks, batch, kv_heads, N, head_dims), T of them new."""

    keys: Tensor
    values: Tensor
    new_keys: Tensor  # the last T columns of `keys`
    new_values: Tensor

    def put(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Fills the block's T new columns (batch, kv_heads, T, head_dims); returns all of its N."""
        self.new_keys[block], self.new_values[block] = keys, values
        return self.keys[block], self.values[block]


class Cache:
    """Room for `context` tokens in each of `batch` rows; `length` of them are filled.

    shape: (nblocks, batch, kv_heads, context, head_dims). keys, values: the same, but with the columns made so far.
    starts: (batch,) columns of left padding, or None.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor, starts: Optional[Tensor] = None) -> None:
        self.keys, self.values = (like.new_empty(*shape[:3], 0, shape[4]) for _ in range(2))
        self.length = 0
        self.starts = starts if starts is not None and bool(starts.any()) else None
        self.writer = torch.zeros(shape[1], shape[3], dtype=torch.int32)  # which row wrote each column of each row,
        self.noted = 0  # as far as is noted: every row has written the later columns itself

    def columns(self, tokens: int) -> Columns:
        """The columns of all tokens so far and of the next `tokens`, which every block is to put before it goes on."""
        start, self.length = self.length, self.length + tokens
        if self.length > self.keys.shape[3]:
            room = min(self.length + ROOM, self.writer.shape[1])
            self.keys, self.values = (_remade(old[:, :, :, :start], room) for old in (self.keys, self.values))
        keys, values = self.keys[:, :, :, : self.length], self.values[:, :, :, : self.length]
        return Columns(keys, values, keys[:, :, :, start:], values[:, :, :, start:])

    def select(self, index: Tensor) -> None:
        """Row i becomes what row index[i] was; index may be shorter or longer than the batch.

        Beams soon share their first part: columns that a row has in common with its new self are not copied again.
        Columns that are padding in every row are dropped: once longer rows have left, each has room for `context`
        tokens of its own.
        """
        end, rows = self.length, len(self.writer)
        self.writer[:, self.noted : end] = torch.arange(rows).unsqueeze(1)
        writer = self.writer[index.cpu()]
        if len(index) == rows:
            self._move(index, writer[:, :end] != self.writer[:, :end])
        else:
            self.keys, self.values = (_remade(old[:, index, :, :end], old.shape[3]) for old in (self.keys, self.values))
        self.writer, self.noted = writer, end
        if self.starts is not None:
            self.starts = self.starts[index]
            if padding := int(self.starts.min()):  # of every row
                self.keys, self.values = self.keys[:, :, :, padding:], self.values[:, :, :, padding:]
                self.writer, self.length, self.noted = self.writer.roll(-padding, 1), end - padding, end - padding
                self.starts = self.starts - padding if bool((self.starts > padding).any()) else None

    def _move(self, index: Tensor, differs: Tensor) -> None:
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


def _remade(filled: Tensor, columns: int) -> Tensor:
    """The same keys or values (nblocks, batch, kv_heads, length, head_dims) with room for so many columns."""
    new = filled.new_empty(*filled.shape[:3], columns, filled.shape[4])
    new[:, :, :, : filled.shape[3]] = filled
    return new
