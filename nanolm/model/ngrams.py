"""Embeddings of the last tokens together: what a table of n-grams knows, as a part of the model.

In: ids, and those that stand before them. Out: what is added to each token's own embedding. A run of 2 .. n tokens has
a row in a table of its own length; runs share rows where there are more of them than rows, as hashes fall. The rows
begin at zero, so that a model begins as it would without them. A look-up costs next to nothing; the tables do cost
memory. N-gram embeddings of this kind: Huang et al. 2025, https://arxiv.org/abs/2501.16975.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOTHING = 0  # the id that stands before a text: that of padding
FACTORS = (27191, 36313, 51787, 83003, 61051, 70271)  # of the newest token, the one before ...; odd


class NGrams(nn.Module):
    """`tables` (n - 1, rows, dims): one for pairs, one for triples ... up to runs of n tokens."""

    def __init__(self, n: int, rows: int, dims: int) -> None:
        super().__init__()
        self.n, self.rows = n, rows
        self.tables = nn.Parameter(torch.zeros(n - 1, rows, dims))

    def forward(self, text: Tensor) -> Tensor:
        """text (B, n - 1 + T), the ids and the n - 1 before them -> (B, T, dims), the sum over all lengths."""
        tokens, mixed = text.shape[1] - self.n + 1, text[:, self.n - 1 :] * FACTORS[0]
        found: list[Tensor] = []  # list[Tensor]() would split the compiled graph
        for back in range(1, self.n):
            start = self.n - 1 - back
            mixed = mixed ^ (text[:, start : start + tokens] * FACTORS[back])
            found.append(mixed % self.rows + (back - 1) * self.rows)
        return F.embedding(torch.stack(found), self.tables.flatten(0, 1)).sum(0)
