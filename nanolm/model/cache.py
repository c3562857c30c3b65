"""The keys and values of the tokens read so far, so that a decoding step reads only the newest token.

In: keys and values of new tokens, block by block. Out: those of all tokens so far. Rows may be padded on the left
(`starts`), reordered or repeated (`select`). Knows neither tokens nor the model.
"""

from typing import Optional

import torch
from torch import Tensor


class Cache:
    """Room for `context` tokens in each of `batch` rows; `length` of them are filled.

    keys, values: (nblocks, batch, kv_heads, context, head_dims). starts: (batch,) columns of left padding, or None.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor, starts: Optional[Tensor] = None) -> None:
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.length = 0
        self.starts = starts if starts is not None and bool(starts.any()) else None
        self.writer = torch.zeros(shape[1], shape[3], dtype=torch.int32)  # which row wrote each column of each row

    @property
    def batch(self) -> int:
        """The number of rows."""
        return self.keys.shape[1]

    @property
    def context(self) -> int:
        """How many tokens fit."""
        return self.keys.shape[3]

    def put(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (batch, kv_heads, T, head_dims) and returns the block's so far (.., length + T, ..)."""
        end = self.length + keys.shape[2]
        all_keys, all_values = self.keys[block, :, :, :end], self.values[block, :, :, :end]
        all_keys[:, :, self.length :] = keys
        all_values[:, :, self.length :] = values
        return all_keys, all_values

    def advance(self, tokens: int) -> None:
        """Counts `tokens` more columns as filled; called once every block has put its own."""
        self.writer[:, self.length : self.length + tokens] = torch.arange(self.batch).unsqueeze(1)
        self.length += tokens

    def select(self, index: Tensor) -> None:
        """Row i becomes what row index[i] was; index may be shorter or longer than the batch.

        Beams soon share their first part: columns that rows have in common are not copied again. Columns that are
        padding in every row are dropped: once longer rows have left, each has room for `context` tokens of its own.
        """
        writer, end, start = self.writer[index.cpu()], self.length, 0
        if len(index) == self.batch:
            differs = (writer[:, :end] != self.writer[:, :end]).any(0).nonzero()
            start = int(differs[0]) if len(differs) else end
        self.keys, self.values = (self._take(old, index, start) for old in (self.keys, self.values))
        self.writer = writer
        if self.starts is not None:
            self.starts = self.starts[index]
            self._drop(int(self.starts.min()))

    def _drop(self, columns: int) -> None:
        if columns == 0 or self.starts is None:
            return
        for table, axis in ((self.keys, 3), (self.values, 3), (self.writer, 1)):
            kept = table.narrow(axis, columns, self.length - columns).clone()
            table.narrow(axis, 0, self.length - columns).copy_(kept)
        self.length -= columns
        self.starts = self.starts - columns if bool((self.starts > columns).any()) else None

    def _take(self, old: Tensor, index: Tensor, start: int) -> Tensor:
        rows = old[:, index, :, start : self.length]
        new = old if len(index) == self.batch else old.new_empty(old.shape[0], len(index), *old.shape[2:])
        new[:, :, :, start : self.length] = rows
        return new
