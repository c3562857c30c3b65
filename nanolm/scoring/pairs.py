"""Minimal pairs: of two texts that differ in one thing, does the model hold the right one likelier?

In: pairs of texts, a model, a tokenizer, a speller. Out: the bits of both texts of each pair, and accuracies with their
intervals. Warstadt et al. 2020 (BLiMP, https://arxiv.org/abs/1912.00582). Words that the model doesn't know say nothing
of its grammar, so pairs with <UNK> are counted apart; together with the others they count with their spelling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from nanolm.corpus.corpus import Encoded
from nanolm.model.transformer import Transformer
from nanolm.scoring.score import encoded_nats
from nanolm.scoring.speller import Speller, spell
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, Tokenizer

Z = 1.959964  # of a 95% interval


@dataclass
class Pair:
    """Two texts, the right one first, and the sets that they belong to, as field, term, uid."""

    good: str
    bad: str
    groups: tuple[str, ...]


def score_pairs(
    pairs: Sequence[Pair],
    model: Transformer,
    tokenizer: Tokenizer,
    speller: Speller,
    device: torch.device,
    precision: str,
) -> pd.DataFrame:
    """A row for each pair: good, bad (normalised), good_bits, bad_bits (with spelling), known, same.

    known: neither text has <UNK>; same: nothing is left of their difference once they are normalised.
    """
    texts = [normalise(text, tokenizer.normalise) for pair in pairs for text in (pair.good, pair.bad)]
    distinct = list(dict.fromkeys(texts))
    encoded = encode_texts(distinct, tokenizer)
    nats = encoded_nats(model, encoded, model.context, device, precision)
    spelling = spell(distinct, tokenizer, speller)
    sums = np.add.reduceat(nats, encoded.offsets[:-1], dtype=np.float64) / math.log(2) + spelling
    bits = dict(zip(distinct, sums.tolist(), strict=True))
    known = {text: not tokenizer.unknown(text) for text in distinct}
    rows = [
        {
            "good": good,
            "bad": bad,
            "good_bits": bits[good],
            "bad_bits": bits[bad],
            "known": known[good] and known[bad],
            "same": good == bad,
        }
        for good, bad in zip(texts[::2], texts[1::2], strict=True)
    ]
    return pd.DataFrame(rows)


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> Encoded:
    """Normalised texts as documents: <BOS> ... <EOS>."""
    rows = [np.array([BOS, *ids, EOS], np.uint32) for ids in tokenizer.encode_batch(texts)]
    return Encoded(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def accuracies(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """A row for all pairs and for each value of each column of `groups`: coverage and accuracies.

    pairs: those that differ; known: how many of them have no <UNK>; accuracy (of these) with its 95% interval `low`,
    `high` (Wilson's); spelled: the accuracy of all pairs, <UNK> spelled. Equal bits count half.
    """
    rows = []
    for column in ("all", *groups):
        for value, part in [("", table)] if column == "all" else table.groupby(column, sort=True):
            rows.append({"set": column, "name": value, **_accuracy(part[~part["same"]])})
    return pd.DataFrame(rows)


def _accuracy(part: pd.DataFrame) -> dict[str, float]:
    right = np.where(part["good_bits"] == part["bad_bits"], 0.5, part["good_bits"] < part["bad_bits"])
    known = part["known"].to_numpy(bool)
    count, hits = int(known.sum()), float(right[known].sum())
    low, high = interval(hits, count)
    found = {"pairs": len(part), "known": count, "accuracy": hits / count if count else math.nan}
    return {**found, "low": low, "high": high, "spelled": float(right.mean()) if len(part) else math.nan}


def interval(hits: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count`; nan for none."""
    if not count:
        return math.nan, math.nan
    share = hits / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
