"""An embedding that knows how its tokens are spelt: those that share pieces of 3 to 5 letters learn from each other.

In: the vocabulary's words, ids. Out: an embedding, which in training is each token's own vector plus the mean of those
of its pieces; pieces share the rows of a table, as hashes fall. A rare word begins where its relatives are. Trained, it
is folded: one plain table, in nothing different from any other, so an exported model needs nothing of this. Pieces of
words as vectors that are added: Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606; here they serve the output
layer too, where it is the embedding.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.model.layers import Embedding

LENGTHS = (3, 4, 5)


class Pieces(NamedTuple):
    """Which rows of a table each token's pieces have: those of token i are rows[starts[i] : starts[i + 1]]."""

    rows: Tensor  # int64
    starts: Tensor  # int64 (V,)

    def sizes(self) -> Tensor:
        """int64 (V,): how many pieces each token has."""
        return torch.diff(self.starts, append=torch.tensor([len(self.rows)]))

    def sums(self, table: Tensor, weights: Optional[Tensor] = None) -> Tensor:
        """(V, dims): of each token's rows of `table`, each times its own of the weights (rows,)."""
        return F.embedding_bag(self.rows, table, self.starts, mode="sum", per_sample_weights=weights)


def pieces_of(words: Sequence[str], rows: int) -> Pieces:
    """The pieces of every word between two marks, so that beginnings and ends are unlike middles; at least one each.

    A piece has the row CRC-32 modulo `rows`; a word's pieces come by length, then by place.
    """
    marked = [f"\x02{word}\x03" for word in words]
    lengths = np.array([len(word) for word in marked])
    begins, hashes = lengths.cumsum() - lengths, _hashes("".join(marked))
    owners, found = [], []
    for size in range(2, max(LENGTHS) + 1):
        count = (lengths - size + 1).clip(0) if size in LENGTHS else (lengths == size).astype(int)  # of the empty word
        owner = np.arange(len(words)).repeat(count)
        place = np.arange(len(owner)) + (begins - count.cumsum() + count).repeat(count)
        owners.append(owner)
        found.append(hashes[size - 1, place] % rows)
    owner = np.concatenate(owners)
    taken = np.concatenate(found)[owner.argsort(kind="stable")].astype(np.int64)
    sizes = np.bincount(owner, minlength=len(words))
    return Pieces(torch.from_numpy(taken), torch.from_numpy(sizes.cumsum() - sizes))


def _hashes(text: str) -> np.ndarray:
    """CRC-32 of the UTF-8 of every piece of text, (sizes from 1 on, places where it begins); those beyond its end hold
    nothing of use."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    begins = np.flatnonzero(data & 0xC0 != 0x80)  # of characters
    widths = np.diff(begins, append=len(data))
    # CRC-32's own table: entry i is what zlib says of the byte 255 - i, but for what it does to every CRC at both ends
    step = np.array([zlib.crc32(bytes([255 - byte])) ^ 0xFF000000 for byte in range(256)], np.uint32)
    hashes = np.full(len(begins), 0xFFFFFFFF, np.uint32)
    found = []
    for size in range(max(LENGTHS)):
        last = np.minimum(np.arange(len(begins)) + size, len(begins) - 1)
        for number in range(widths.max()):
            there = np.flatnonzero(widths[last] > number)
            before = hashes[there]
            hashes[there] = step[(before ^ data[begins[last[there]] + number]) & 255] ^ (before >> 8)
        found.append(~hashes)
    return np.array(found)


def spelt_means(spelling: Tensor, words: Sequence[str]) -> Tensor:
    """(V, dims): what pieces add to each word's own vector, once they have learned; spelling (rows, dims)."""
    pieces = pieces_of(words, len(spelling))
    return pieces.sums(spelling).mul_((1 / pieces.sizes().unsqueeze(1)).to(spelling.dtype))


class _Table(torch.autograd.Function):
    """Each token's own vector plus the mean of its rows. Both ways are sums over rows that are looked up: torch's own
    way back takes four times as long on a CPU. Nothing else as large as the table exists meanwhile."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, spelling: Tensor, there: Pieces, back: Pieces, shares: Tensor) -> Tensor:
        ctx.back, ctx.shares = back, shares
        return there.sums(spelling).mul_(shares).add_(own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        return grad, ctx.back.sums(grad, ctx.shares[ctx.back.rows].flatten()), None, None, None


class SpelledEmbedding(Embedding):
    """`weight` (V, dims), each token's own; `spelling` (rows, dims), its pieces', which begin at zero."""

    def __init__(self, vocab_size: int, dims: int, rows: int, pieces: Pieces) -> None:
        super().__init__(vocab_size, dims)
        self.spelling = nn.Parameter(torch.zeros(rows, dims))
        self.known: Optional[Tensor] = None  # the whole table, in eval mode
        sizes = pieces.sizes()
        order = pieces.rows.argsort(stable=True)
        starts = torch.searchsorted(pieces.rows[order], torch.arange(rows))
        tokens = torch.arange(vocab_size).repeat_interleave(sizes)[order]
        lists = {"rows": pieces.rows, "starts": pieces.starts, "tokens": tokens, "token_starts": starts}
        for name, values in (lists | {"shares": 1 / sizes.unsqueeze(1)}).items():
            self.register_buffer(name, values, persistent=False)

    def table(self) -> Tensor:
        """(V, dims): own vectors plus means; in eval mode as they were when it began."""
        if self.known is not None:
            return self.known
        there, back = Pieces(self.rows, self.starts), Pieces(self.tokens, self.token_starts)
        return _Table.apply(self.weight, self.spelling, there, back, self.shares.to(self.weight.dtype))

    def train(self, mode: bool = True) -> "SpelledEmbedding":
        """torch's; the table of eval mode is made once, since nothing learns there."""
        super().train(mode)
        self.known = None
        if not mode:
            self.known = self.table().detach()
        return self
