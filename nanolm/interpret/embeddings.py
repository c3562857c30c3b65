"""Where the words lie: the nearest words of a word, and a map of the most frequent ones in two dimensions.

In: a model's embedding. Out: neighbours by cosine, and points by principal components, t-SNE or UMAP. Knows no text.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.model.transformer import Transformer
from nanolm.tokenizer.base import SPECIALS

CAUTION = "near ones are alike, but how far the others are means little"


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
    vectors = model.embedding.weight.detach().float()[list(tokens)].cpu()  # mps has no svd (torch 2.13)
    left, values, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    share = float(values[:2].square().sum() / values.square().sum())
    return left[:, :2] * values[:2], share


def by_pca(model: Transformer, tokens: Sequence[int]) -> tuple[Tensor, str]:
    """Points along the principal components, and what the map shows."""
    points, share = principal_map(model, tokens)
    return points, f"along the two main directions of their embeddings: {share:.0%} of the spread"


def by_tsne(model: Transformer, tokens: Sequence[int]) -> tuple[Tensor, str]:
    """Points by t-SNE (van der Maaten & Hinton 2008) of cosine distances: near ones are near, far ones mean nothing."""
    from sklearn.manifold import TSNE

    perplexity = min(20.0, (len(tokens) - 1) / 3)
    mapper = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0)
    points = torch.from_numpy(mapper.fit_transform(_vectors(model, tokens)))
    return points, f"by t-SNE (perplexity {perplexity:g}, cosine): {CAUTION}"


def by_umap(model: Transformer, tokens: Sequence[int]) -> tuple[Tensor, str]:
    """Points by UMAP (McInnes et al. 2018); ConfigError where it is not installed."""
    try:
        from umap import UMAP
    except ImportError:
        raise ConfigError("map=umap: is not installed; pip install umap-learn, or take map=tsne") from None
    points = UMAP(metric="cosine", random_state=0).fit_transform(_vectors(model, tokens))
    return torch.from_numpy(np.asarray(points)), f"by UMAP (cosine): {CAUTION}"


def _vectors(model: Transformer, tokens: Sequence[int]) -> np.ndarray:
    found: np.ndarray = model.embedding.weight.detach().float()[list(tokens)].cpu().numpy()
    return found


MAPS: dict[str, Callable[[Transformer, Sequence[int]], tuple[Tensor, str]]] = {
    "pca": by_pca,
    "tsne": by_tsne,
    "umap": by_umap,
}
