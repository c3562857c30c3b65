"""The configurations that can't be told from the best: a set that holds the truly best ones in 95% of such tables.

In: scores on val, what each document and each seed did to them. Out: which rows are in the set. Knows no runs.
The model confidence set of Hansen, Lunde & Nason (2011, https://doi.org/10.3982/ECTA5771), with their T_max: rows are
left out, the worst first, as long as those that are left can't all be equally good. Because it is the worst of them
all that is tested, many configurations don't make it too easy for one to seem better.
"""

import math
from collections.abc import Sequence

import numpy as np

DRAWS = 2000
CHUNK = 250  # draws at once: bounds the memory


def confidence_set(
    scores: Sequence[Sequence[float]],
    bits: Sequence[np.ndarray] | None,
    nbytes: np.ndarray | None,
    level: float = 0.95,
    seed: int = 0,
) -> list[int]:
    """The rows that can't be told from the best, the best first.

    scores: of each row bits per byte of each seed. bits: of each row (seeds, documents), nbytes: (documents,); None
    where documents aren't known. How much a seed moves a score is that of all rows together; where no row has several
    seeds, only the documents count.
    """
    means = np.array([np.mean(row) for row in scores])
    noise = np.zeros((DRAWS, len(means)))
    rng = np.random.default_rng(seed)
    if bits is not None and nbytes is not None:
        noise += document_noise(np.array([row.mean(0) for row in bits]), nbytes, rng)
    noise += seed_noise(scores, rng)
    left = list(range(len(means)))
    while len(left) > 1:
        away = means[left] - means[left].mean()
        drawn = noise[:, left] - noise[:, left].mean(1, keepdims=True)
        error = drawn.std(0)
        if not error.any():
            return [int(means.argmin())]  # nothing is known of chance
        error = np.maximum(error, 1e-12)
        largest = (drawn / error).max(1)
        worst = int((away / error).argmax())
        if (largest >= away[worst] / error[worst]).mean() > 1 - level:
            break
        left.pop(worst)
    return sorted(left, key=lambda row: means[row])


def document_noise(bits: np.ndarray, nbytes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws, rows): bits per byte over resampled documents, less those over all; the same documents for every row.

    Each draw is stretched as Student's t is: how much documents differ is itself estimated, from few of them where
    long ones weigh most.
    """
    documents = len(nbytes)
    columns = np.vstack([bits, nbytes]).T
    parts = []
    for start in range(0, DRAWS, CHUNK):
        size = min(CHUNK, DRAWS - start)
        drawn = rng.integers(documents, size=(size, documents)) + np.arange(size)[:, None] * documents
        parts.append(np.bincount(drawn.ravel(), minlength=size * documents).reshape(size, documents) @ columns)
    sums = np.concatenate(parts)
    freedom = max(1.0, nbytes.sum() ** 2 / (nbytes**2).sum() - 1)
    stretched = np.sqrt(freedom / rng.chisquare(freedom, (DRAWS, 1)))
    return np.asarray(stretched * (sums[:, :-1] / sums[:, -1:] - bits.sum(1) / nbytes.sum()))


def seed_noise(scores: Sequence[Sequence[float]], rng: np.random.Generator) -> np.ndarray:
    """(draws, rows): what other seeds would do to the rows' means; Student's t, as their spread is estimated too."""
    freedom = sum(len(row) - 1 for row in scores)
    if not freedom:
        return np.zeros((DRAWS, len(scores)))
    spread = math.sqrt(sum(float(np.var(row)) * len(row) for row in scores) / freedom)
    shares = np.sqrt([1 / len(row) for row in scores])
    scale = np.sqrt(freedom / rng.chisquare(freedom, (DRAWS, 1)))
    return np.asarray(spread * shares * scale * rng.standard_normal((DRAWS, len(scores))))
