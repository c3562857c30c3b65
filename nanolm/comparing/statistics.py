"""How sure a difference is. In: bits per test document, scores over seeds. Out: intervals, a verdict in words, a fit.

Bits per byte of several documents is a ratio of sums, so both sums are resampled together. Knows no runs.
"""

import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
ENOUGH = 20  # documents that an interval needs
T975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # Student's t for 1 to 10 degrees of freedom


def paired_bootstrap(bits: np.ndarray, nbytes: np.ndarray, best: int, seed: int = 0) -> np.ndarray:
    """The 95% interval of bits per byte minus those of row `best`, over the same resampled documents.

    bits: (runs, documents), nbytes: (documents,). Out: (runs, 2), nan where documents are too few. The percentile
    interval of Efron & Tibshirani (1993), chapter 13; paired as in Koehn (2004).
    """
    runs, documents = bits.shape
    if documents < ENOUGH:
        return np.full((runs, 2), math.nan)
    rng = np.random.default_rng(seed)
    columns = np.vstack([bits - bits[best], nbytes]).T  # (documents, runs + 1)
    drawn = (rng.integers(documents, size=documents) for _ in range(RESAMPLES))
    sums = np.array([np.bincount(rows, minlength=documents) @ columns for rows in drawn])
    return np.quantile(sums[:, :-1] / sums[:, -1:], [0.025, 0.975], axis=0).T


def pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The standard deviation within groups and its degrees of freedom; (nan, 0) where no group has two members."""
    freedom = sum(len(group) - 1 for group in groups if len(group))
    squares = sum(float(np.var(group)) * len(group) for group in groups if len(group))
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


def seed_margin(scores: Sequence[float], best: Sequence[float], everyone: Sequence[Sequence[float]]) -> float:
    """Half the 95% interval of the difference of two means over seeds; 0 where no spread is known.

    The spread is that of the two where both have several seeds, else that of all configurations that have.
    """
    sd, freedom = pooled_sd([scores, best] if min(len(scores), len(best)) > 1 else everyone)
    if not freedom or not scores:
        return 0.0
    t = T975[freedom - 1] if freedom <= len(T975) else 1.96 + 2.4 / freedom
    return t * sd * math.sqrt(1 / len(scores) + 1 / len(best))


def verdict(difference: float, low: float, high: float, margin: float) -> str:
    """A difference to the best in words. low, high: over documents (nan: unknown); margin: over seeds (0: unknown)."""
    known = not math.isnan(low)
    if math.isnan(difference) or not (known or margin):
        return "unknown"
    if known and low <= 0:
        return "within the noise (documents)"
    if difference <= math.hypot((high - low) / 2 if known else 0.0, margin):
        return "within the noise (seeds)"
    return "worse" if margin else "worse (one seed)"


def power_law(x: Sequence[float], y: Sequence[float], floor: float = 0.0) -> tuple[float, float] | None:
    """(a, b) of y = floor + a * x**b, by least squares in logarithms; None under four distinct x."""
    points = np.array([(math.log(u), math.log(v - floor)) for u, v in zip(x, y, strict=True) if u > 0 and v > floor])
    if not len(points) or len(np.unique(points[:, 0])) < 4:
        return None
    b, log_a = np.polyfit(points[:, 0], points[:, 1], 1)
    return math.exp(log_a), float(b)
