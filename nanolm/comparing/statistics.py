"""How sure a difference is. In: bits per test document, scores over seeds. Out: margins, a verdict in words, a fit.

Two kinds of chance move a score: which documents were held out, and the seed. Both are drawn anew many times, with the
choice of the best row, so that what is said of a whole table holds for 95% of tables. Knows no runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CHUNK = 2**23  # numbers at once: bounds the memory
ENOUGH = 20  # documents that a margin needs


def resamples_for(rows: int) -> int:
    """How often chance is drawn anew: fewer times for very many rows, whose draws would fill the memory."""
    return max(1000, min(RESAMPLES, 2_000_000 // rows))


@dataclass
class Resampled:
    """What chance in the documents does to the scores of a table's rows, for one table and for many drawn ones."""

    noise: np.ndarray  # (draws, rows): bits per byte over resampled documents, less those over all
    covariance: np.ndarray  # (rows, rows) of that noise
    estimated: np.ndarray  # (draws, rows): its variance as each draw estimates it, relative to the true one

    @classmethod
    def none(cls, rows: int) -> "Resampled":
        """Of scores in which documents play no part."""
        draws = resamples_for(rows)
        return cls(np.zeros((draws, rows)), np.zeros((rows, rows)), np.ones((draws, rows)))


def bootstrap(
    bits: np.ndarray, nbytes: np.ndarray, best: int, resamples: int | None = None, seed: int = 0
) -> Resampled:
    """The scores of every run over the same resampled documents (Koehn 2004), and how sure each draw is of itself.

    bits: (runs, documents), nbytes: (documents,). Bits per byte is a ratio of sums, so both sums are resampled
    together; variances are linearised, of differences to `best` (Efron & Tibshirani 1993, chapters 6 and 12).
    """
    documents, rng = len(nbytes), np.random.default_rng(seed)
    resamples = resamples or resamples_for(len(bits))
    scores = bits.sum(1) / nbytes.sum()
    residuals = bits - scores[:, None] * nbytes  # (runs, documents)
    away = residuals - residuals[best]
    columns = np.vstack([bits, away**2, away * nbytes, nbytes, nbytes**2]).T  # (documents, 3 * runs + 2)
    parts = []
    step = max(1, CHUNK // documents)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(documents, size=(size, documents)) + np.arange(size)[:, None] * documents
        parts.append(np.bincount(drawn.ravel(), minlength=size * documents).reshape(size, documents) @ columns)
    sums = np.concatenate(parts)
    found_bits, squares, products, found_bytes = np.split(sums, np.cumsum([len(bits)] * 3), axis=1)
    total, moved = found_bytes[:, :1], found_bits / found_bytes[:, :1] - scores
    moved_from_best = moved - moved[:, [best]]  # what the residuals of a resampled table are around
    estimated = (squares - 2 * moved_from_best * products + moved_from_best**2 * found_bytes[:, 1:]) / total**2
    known = (away**2).sum(1) / nbytes.sum() ** 2
    ratio = np.divide(estimated, known, out=np.ones_like(estimated), where=known > 0)
    if len(bits) > 1:
        ratio[:, best] = np.delete(ratio, best, axis=1).mean(1)
    return Resampled(moved, residuals @ residuals.T / nbytes.sum() ** 2, ratio)


def pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The standard deviation within groups and its degrees of freedom; (nan, 0) where no group has two members."""
    freedom = sum(len(group) - 1 for group in groups if len(group))
    squares = sum(float(np.var(group)) * len(group) for group in groups if len(group))
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


@dataclass
class Spread:
    """What the seeds do to the scores of a table's rows."""

    counts: Sequence[int]  # of each row, how many seeds its score is the mean of
    sd: float = 0.0  # of a score over seeds
    freedom: int = 0  # degrees of freedom of `sd`; 0: the spread isn't known, and taken as none
    by_documents: float = 0.0  # the part of sd**2 that `bootstrap` has already: see `seeds_by_documents`


def seeds_by_documents(bits: Sequence[np.ndarray], nbytes: np.ndarray) -> float:
    """The part of a score's variance over seeds that comes from which documents a seed gets right: `bootstrap` has it.

    bits: of each configuration (seeds, documents).
    """
    squares, freedom = 0.0, sum(len(runs) - 1 for runs in bits)
    for runs in bits:
        residuals = runs - runs.sum(1, keepdims=True) / nbytes.sum() * nbytes
        squares += float(((residuals - residuals.mean(0)) ** 2).sum()) / float(nbytes.sum()) ** 2
    return squares / freedom if freedom else 0.0


def sd_interval(sd: float, freedom: int) -> tuple[float, float]:
    """The 95% interval of a standard deviation that was estimated with so many degrees of freedom."""
    ratios = np.random.default_rng(0).chisquare(freedom, 200_000) / freedom
    low, high = np.quantile(ratios, [0.025, 0.975])
    return sd / math.sqrt(high), sd / math.sqrt(low)


def margins(
    scores: np.ndarray,
    best: int,
    seeds: Spread,
    resampled: Resampled | None = None,
    chosen_here: bool = False,
) -> np.ndarray:
    """Half the width of the interval around each row's difference to row `best`: (rows,), 0 for `best` itself.

    For 95% of tables all intervals hold the true differences at once. chosen_here: `best` is the lowest of `scores`
    themselves; else it was chosen by as many other documents.

    The largest |difference| / standard error over all rows is drawn many times, as if all rows were equally good; with
    one spread for all and no documents that is Tukey's range test. Rows that are behind beyond doubt can't have been
    chosen by chance, so then it is drawn again without them as candidates (a step down, as in Romano & Wolf 2005).
    """
    rows, rng, drawn = len(scores), np.random.default_rng(1), resampled or Resampled.none(len(scores))
    variances, noise, draws = drawn.covariance.diagonal(), drawn.noise, len(drawn.noise)
    shares = 1 / np.array(seeds.counts, float)
    pairs = shares[:, None] + shares  # (rows, rows): a variance over seeds times this is that of a difference
    alone = max(seeds.sd**2 - seeds.by_documents, 0)  # the variance over seeds that no document has a part in
    by_documents = variances[:, None] + variances - 2 * drawn.covariance - seeds.by_documents * pairs
    by_documents, by_seeds = np.maximum(by_documents, 0), (alone + seeds.by_documents) * pairs
    error = np.sqrt(by_documents + by_seeds)

    luck = math.sqrt(alone) * rng.standard_normal((draws, rows)) * np.sqrt(shares)
    choice = (noise if chosen_here else rng.permutation(noise)) + luck
    estimated = np.ones((draws, 1))  # the variance over seeds as each drawn table would estimate it
    if seeds.freedom:
        estimated = rng.chisquare(seeds.freedom, (draws, 1)) / seeds.freedom
    candidates, every = np.full(rows, True), np.arange(draws)
    for _ in range(2):
        chosen = np.where(candidates, choice, np.inf).argmin(1)
        errors = np.sqrt(drawn.estimated * by_documents[chosen] + estimated * by_seeds[chosen])
        away = np.abs(noise + luck - (noise + luck)[every, chosen][:, None])
        largest = np.divide(away, errors, out=np.zeros_like(away), where=errors > 0).max(1)
        found = np.quantile(largest, 0.95) * error[best]
        candidates = scores - scores[best] <= found
    found[best] = 0
    return np.asarray(found)


def verdict(difference: float, margin: float, over_seeds: bool) -> str:
    """A difference to the best in words. margin: nan or 0 where nothing is known; over_seeds: whether it knows them."""
    if math.isnan(difference) or not margin > 0:
        return "unknown"
    if abs(difference) <= margin:
        return "within the noise"
    kind = "worse" if difference > 0 else "better on test"
    return kind if over_seeds else f"{kind} (one seed)"


def power_law(x: Sequence[float], y: Sequence[float], floor: float = 0.0) -> tuple[float, float] | None:
    """(a, b) of y = floor + a * x**b, by least squares in logarithms; None under four distinct x."""
    points = np.array([(math.log(u), math.log(v - floor)) for u, v in zip(x, y, strict=True) if u > 0 and v > floor])
    if not len(points) or len(np.unique(points[:, 0])) < 4:
        return None
    b, log_a = np.polyfit(points[:, 0], points[:, 1], 1)
    return math.exp(log_a), float(b)
