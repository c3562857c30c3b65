"""Minimal pairs: of two texts that differ in one thing, does the model hold the right one likelier?

In: pairs of texts, a tokenizer, a speller, nats of tokens. Out: the bits of both texts of each pair, and accuracies
with their intervals. Warstadt et al. 2020 (BLiMP, https://arxiv.org/abs/1912.00582). Words that the model doesn't know
say nothing of its grammar, so pairs with <UNK> are counted apart; together with the others they count with their
spelling. Where the exact bits of both texts are known, it is told how near those of the model are. Knows no model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import pandas as pd

from nanolm.corpus.corpus import Encoded
from nanolm.scoring.speller import Speller, spell
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, Tokenizer

Z = 1.959964  # of a 95% interval


@dataclass
class Pair:
    """Two texts, the right one first, and the sets that they belong to, as field, term, uid.

    exact: the bits of both where what wrote them knows them; inf where it can't have written the wrong one.
    """

    good: str
    bad: str
    groups: tuple[str, ...]
    exact: Optional[tuple[float, float]] = None


class PairTexts:
    """The texts of pairs, each encoded once for all models that are to score them.

    table: a row for each pair: good, bad (normalised), known, same, good_exact, bad_exact. known: neither text has
    <UNK>; same: nothing is left of their difference once they are normalised.
    """

    def __init__(self, pairs: Sequence[Pair], tokenizer: Tokenizer, speller: Speller) -> None:
        texts = [normalise(text, tokenizer.normalise) for pair in pairs for text in (pair.good, pair.bad)]
        distinct = list(dict.fromkeys(texts))
        self.encoded = encode_texts(distinct, tokenizer)
        self.spelling = spell(distinct, tokenizer, speller)
        rows = {text: row for row, text in enumerate(distinct)}
        self.rows = np.array([rows[text] for text in texts]).reshape(-1, 2)  # of each pair, in `encoded`
        known = np.array([not tokenizer.unknown(text) for text in distinct])
        self.table = pd.DataFrame({"good": texts[::2], "bad": texts[1::2]})
        self.table["known"] = known[self.rows].all(1)
        self.table["same"] = self.rows[:, 0] == self.rows[:, 1]
        exact = [pair.exact or (math.nan, math.nan) for pair in pairs]
        self.table["good_exact"], self.table["bad_exact"] = zip(*exact, strict=True)

    def bits(self, nats: np.ndarray) -> np.ndarray:
        """float64 (pairs, 2): bits of the good and the bad texts, spelling included; nats: of `encoded`'s ids."""
        sums = np.add.reduceat(nats, self.encoded.offsets[:-1], dtype=np.float64) / math.log(2) + self.spelling
        found: np.ndarray = sums[self.rows]
        return found

    def token_bits(self, nats: np.ndarray) -> np.ndarray:
        """float64 (pairs, 2): bits of the texts' own tokens, without <EOS> and spelling: what lm-eval compares."""
        own = nats.astype(np.float64)
        own[self.encoded.offsets[1:] - 1] = 0
        found: np.ndarray = np.add.reduceat(own, self.encoded.offsets[:-1])[self.rows] / math.log(2)
        return found


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> Encoded:
    """Normalised texts as documents: <BOS> ... <EOS>."""
    rows = [np.array([BOS, *ids, EOS], np.uint32) for ids in tokenizer.encode_batch(texts)]
    return Encoded(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def accuracies(table: pd.DataFrame, groups: Sequence[str], bits: np.ndarray) -> pd.DataFrame:
    """A row for all pairs and for each value of each column of `groups`: coverage and accuracies of `bits` (pairs, 2).

    pairs: those that differ; known: how many of them have no <UNK>; accuracy (of these) with its 95% interval `low`,
    `high` (Wilson's); spelled: the accuracy of all pairs, <UNK> spelled. Equal bits count half. Of known pairs whose
    exact odds are finite, in bits: exact_odds, odds (means), off (mean distance of the two).
    """
    figures = table.assign(
        right=np.where(bits[:, 0] == bits[:, 1], 0.5, bits[:, 0] < bits[:, 1]),
        odds=bits[:, 1] - bits[:, 0],
        exact_odds=table["bad_exact"] - table["good_exact"],
    )[~table["same"]]
    rows = []
    for column in ("all", *groups):
        for value, part in [("", figures)] if column == "all" else figures.groupby(column, sort=True):
            rows.append({"set": column, "name": value, **_accuracy(part)})
    return pd.DataFrame(rows)


def _accuracy(part: pd.DataFrame) -> dict[str, float]:
    known = part[part["known"]]
    count, hits = len(known), float(known["right"].sum())
    low, high = interval(hits, count)
    found = {"pairs": len(part), "known": count, "accuracy": hits / count if count else math.nan}
    found |= {"low": low, "high": high, "spelled": float(part["right"].mean())}
    finite = known[np.isfinite(known["exact_odds"])]
    off = (finite["odds"] - finite["exact_odds"]).abs()
    return found | {"exact_odds": finite["exact_odds"].mean(), "odds": finite["odds"].mean(), "off": off.mean()}


def interval(hits: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count`; nan for none."""
    if not count:
        return math.nan, math.nan
    share = hits / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
