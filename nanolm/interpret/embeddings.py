"""Where the words lie: the nearest words of a word, and a map of the most frequent ones in two dimensions.

In: a model's embedding. Out: neighbours by cosine, and points by principal components. Knows no text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nanolm.model.transformer import Transformer
from nanolm.tokenizer.base import SPECIALS


def nearest(model: Transformer, token: int, count: int = 8) -> list[tuple[int, float]]:
    """The ids whose embeddings have the largest cosines with that of `token`, and these cosines; specials left out."""
    unit = torch.nn.functional.normalize(model.embedding.weight.detach().float(), dim=-1)
    cosines = unit @ unit[token]
    cosines[: len(SPECIALS)] = -2
    cosines[token] = -2
    values, found = cosines.topk(min(count, len(cosines) - len(SPECIALS) - 1))
    return list(zip(found.tolist(), values.tolist(), strict=True))


def principal_map(model: Transformer, tokens: Sequence[int]) -> tuple[Tensor, float]:
    """Points (n, 2) of the tokens along their embeddings' two principal components, and the share these explain."""
    vectors = model.embedding.weight.detach().float()[list(tokens)]
    left, values, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    share = float(values[:2].square().sum() / values.square().sum())
    return left[:, :2] * values[:2], share
