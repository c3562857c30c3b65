"""What a head is for: how much it looks at the token before, at the same token, at what followed it.

In: a model. Out: three scores from 0 to 1 for each head, on random tokens, all different, that are written twice, where
nothing but position and repetition can help. An induction head (Olsson et al. 2022,
https://arxiv.org/abs/2209.11895) looks from the second time at the token that followed the first. A model of a narrow
language may do so with its own texts alone, so that a text can be given instead.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nanolm.interpret.attention import attention_weights
from nanolm.model.transformer import Transformer
from nanolm.tokenizer.base import BOS, SPECIALS

REPEATS = 4  # texts, whose mean is taken
LONGEST = 64  # random tokens that are repeated
SCORES = ("previous", "duplicate", "induction")


def head_scores(model: Transformer, text: Sequence[int] = (), seed: int = 0) -> pd.DataFrame:
    """A row for each head: layer, head (from 1), and its SCORES; text: tokens to be written twice, else random ones."""
    longest = (model.context - 1) // 2
    if tokens := [*text[:longest]]:
        return scores_of(attention_weights(model, [BOS, *tokens, *tokens]), len(tokens))
    size = min(LONGEST, longest, model.vocab_size - len(SPECIALS))
    random = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        tokens = random.choice(np.arange(len(SPECIALS), model.vocab_size), size, replace=False).tolist()
        found.append(attention_weights(model, [BOS, *tokens, *tokens]))
    return scores_of(np.mean(found, 0), size)


def scores_of(weights: np.ndarray, size: int) -> pd.DataFrame:
    """The scores of attention weights (L, H, T, T) over <BOS> and `size` tokens written twice, T = 1 + 2 * size."""
    layers, heads, _, _ = weights.shape
    every, second = np.arange(1, 1 + 2 * size), np.arange(1 + size, 1 + 2 * size)
    names = pd.MultiIndex.from_product([range(1, layers + 1), range(1, heads + 1)], names=["layer", "head"])
    columns = {
        "previous": weights[:, :, every, every - 1].mean(-1).ravel(),
        "duplicate": weights[:, :, second, second - size].mean(-1).ravel(),
        "induction": weights[:, :, second, second - size + 1].mean(-1).ravel(),
    }
    return pd.DataFrame(columns, names).reset_index()
