"""The bits per byte that no model can beat on average, where the data knows them.

In: a DataConfig, normalised texts and their bytes. Out: exact bits per byte, or None. Knows no model.
"""

from collections.abc import Iterable

import numpy as np

from nanolm.corpus.corpus import Corpus
from nanolm.data.base import DataConfig
from nanolm.files import fingerprint
from nanolm.locks import cached


def floor_bpb(data: DataConfig, corpus: Corpus, split: str) -> float | None:
    """The bits per byte that no model beats on average over a split, where the data knows them; cached."""
    path = corpus.folder.parent / f"floor-{split}-{fingerprint([corpus.fingerprint, data.signature()])}.json"
    return cached(path, lambda: floor(data, corpus.texts(split), corpus.nbytes(split)))


def floor(data: DataConfig, texts: Iterable[str], nbytes: np.ndarray) -> float | None:
    """Exact bits per byte of normalised texts; None where the data doesn't know one of them, or there are none."""
    total = 0.0
    for text in texts:
        if (bits := data.floor_bits(text)) is None:
            return None
        total += bits
    return total / int(nbytes.sum()) if len(nbytes) else None
