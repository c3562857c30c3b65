"""What written texts are judged by: repetition, diversity, likeness to each other, and copying.

In: texts, each a list of words. Out: a number, nan where there is nothing to count. Pure functions: they know no
models, no tokenizers and no files. An n-gram never reaches from one text into the next.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

Text = Sequence[str]
Gram = tuple[str, ...]
ORDERS = (1, 2, 3, 4)  # of BLEU-4
EPSILON = 0.1  # matches that count for none


def ngrams(text: Text, n: int) -> Iterator[Gram]:
    """Every n words that follow each other; none where the text is shorter."""
    return zip(*(text[start:] for start in range(n)), strict=False)


def repetition(texts: Iterable[Text], n: int = 4) -> float:
    """The share of n-grams that occurred before in their own text; mean over the texts that have an n-gram.

    seq-rep-n of Welleck et al. 2020, https://arxiv.org/abs/1908.04319.
    """
    shares = [1 - len(set(grams)) / len(grams) for text in texts if (grams := list(ngrams(text, n)))]
    return statistics.fmean(shares) if shares else math.nan


def distinct(texts: Iterable[Text], n: int, size: int) -> float:
    """Different n-grams of all texts together, per word: distinct-n of Li et al. 2016, https://arxiv.org/abs/1510.03055

    It falls with the number of words read, so only the first `size` are, text after text: compare at equal sizes. (They
    come from fewer texts where texts are longer.)
    """
    seen: set[Gram] = set()
    words = 0
    for text in texts:
        part = text[: size - words]
        words += len(part)
        seen.update(ngrams(part, n))
    return len(seen) / words if words else math.nan


def known(texts: Iterable[Text], documents: Iterable[Text], n: int = 8) -> set[Gram]:
    """The n-grams of the texts that also occur in the documents, which are read once and not kept."""
    wanted = {gram for text in texts for gram in ngrams(text, n)}
    return {gram for document in documents for gram in ngrams(document, n) if gram in wanted}


def copied(texts: Iterable[Text], seen: set[Gram], n: int = 8) -> float:
    """The share of all n-grams that are among those `seen`; after McCoy et al. 2023, https://arxiv.org/abs/2111.09509"""
    hits = [gram in seen for text in texts for gram in ngrams(text, n)]
    return statistics.fmean(hits) if hits else math.nan


def self_bleu(texts: Iterable[Text], most: int = 50) -> float:
    """The mean BLEU-4 of each text against all others: 1 where all are alike, near 0 where they share little.

    Self-BLEU of Zhu et al. 2018 (Texygen), https://arxiv.org/abs/1802.01886. Only the first `most` texts are read, as
    the cost grows with their square, and more references raise it: compare at equal numbers. Empty texts are left out.
    """
    tables = [count(text) for text in list(texts)[:most] if text]
    if len(tables) < 2:
        return math.nan
    return statistics.fmean(bleu(table, tables[:i] + tables[i + 1 :]) for i, table in enumerate(tables))


def count(text: Text) -> list[Counter[Gram]]:
    """How often each n-gram occurs, a table for each order."""
    return [Counter(ngrams(text, n)) for n in ORDERS]


def bleu(text: list[Counter[Gram]], others: Sequence[list[Counter[Gram]]]) -> float:
    """BLEU-4 of a counted, not empty text against counted references (Papineni et al. 2002, aclanthology.org/P02-1040).

    The geometric mean of the shares of its n-grams that a reference has (as often), times a penalty where the reference
    of the nearest length is longer. Orders without a match count EPSILON matches (method 1 of Chen & Cherry 2014,
    aclanthology.org/W14-3346); 0 where not even a word matches.
    """
    logs = 0.0
    for place, grams in enumerate(text):
        hits = sum(min(times, max(other[place].get(gram, 0) for other in others)) for gram, times in grams.items())
        if place == 0 and not hits:
            return 0.0
        logs += math.log((hits or EPSILON) / max(1, grams.total()))
    length = text[0].total()
    nearest = min((other[0].total() for other in others), key=lambda size: (abs(size - length), size))
    return math.exp(logs / len(ORDERS) + min(0.0, 1 - nearest / length))
