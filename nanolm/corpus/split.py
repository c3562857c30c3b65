"""Which documents learn, which choose among runs, which are scored at the end.

In: a DataConfig and the documents' hashes, or a lone document's bytes. Out: a place in SPLITS for each, and what to
change in the config where a split is empty. Knows no files.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from nanolm.data.base import DataConfig

SPLITS = ("train", "val", "test")
LONG = 1000  # bytes that a lone document needs to be cut into train, val and test
_SPACE = re.compile(rb"\s")
_SHARES = np.arange(5, 95, 5) / 100  # those that a mend may name


def split_codes(config: DataConfig, keys: np.ndarray) -> np.ndarray:
    """uint8 (n): the place in SPLITS. `hash`: by the text alone, so neither order nor other documents matter."""
    train, val, test = shares(config)
    if config.split == "tail":
        return (np.arange(len(keys)) >= int(len(keys) * train + 1e-9)).astype(np.uint8)
    place = keys / 2.0**64
    return np.where(place < val, 1, np.where(place < val + test, 2, 0)).astype(np.uint8)


def shares(config: DataConfig) -> tuple[float, float, float]:
    """Those of train, val and test."""
    test = config.test if config.split == "hash" else 0.0
    return 1 - config.val - test, config.val, test


def cut_bounds(config: DataConfig, data: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray] | None:
    """Where a lone document (its bytes, with a newline at the end) is cut: (start, end) of each part, and its split.

    A cut is at the next space, which goes, or where no space comes before the next cut, between two characters. None
    if the document is short, or everything is to be in one split.
    """
    parts = shares(config)
    codes = np.flatnonzero(parts).astype(np.uint8)
    if len(codes) == 1 or len(data) < LONG:
        return None
    size = len(data) - 1
    wanted = (np.cumsum([parts[code] for code in codes]) * len(data)).astype(int).tolist()
    start, bounds = 0, list[tuple[int, int]]()
    for place, following in pairwise(wanted):
        space = _SPACE.search(data.data, place, min(following, size))
        end = space.start() if space else _between_characters(data, place)
        bounds.append((start, end))
        start = space.end() if space else end
    bounds.append((start, size))
    return (bounds, codes) if all(end > start for start, end in bounds) else None


def _between_characters(data: np.ndarray, place: int) -> int:
    """`place`, or the next byte that begins a character of UTF-8."""
    while data[place] & 0xC0 == 0x80:
        place += 1
    return place


def mend(config: DataConfig, split: str, keys: np.ndarray, needs: Sequence[str]) -> str:
    """What to change so that none of the splits `needs` is empty: the smallest shares that do, if any do."""
    if len(keys) < 2:
        return f"a lone document is split from {LONG:,} bytes on; give more text"
    codes = [SPLITS.index(name) for name in needs]
    if config.split == "hash":
        place = keys / 2.0**64
        for val in _SHARES:
            for test in _SHARES if "test" in needs else [min(config.test, 0.95 - val)]:
                found = np.where(place < val, 1, np.where(place < val + test, 2, 0))
                if all((found == code).any() for code in codes) and val + test < 1:
                    return f"give data.val={val:.2g} data.test={test:.2g}, or more documents"
    if "test" not in needs and split != "train":
        return f"give data.split=tail data.val={np.ceil(100 / len(keys)) / 100:.2g}, or more documents"
    return "give more documents"
