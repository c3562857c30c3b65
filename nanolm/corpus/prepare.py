"""Documents -> a folder of normalised, unique, split text: the files that `corpus.Corpus` opens.

In: a DataConfig and an empty folder. Out: `text.bin` (UTF-8, a newline after each document), `offsets.npy` (where each
begins, and the end), `splits.npy` (its place in SPLITS) and `report.json`. Streams: holds some 70 bytes a document.
"""

import re
from array import array
from collections import Counter
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np

from nanolm.data.base import DataConfig
from nanolm.errors import DataError
from nanolm.files import fingerprint, write_json
from nanolm.text import normalise
from nanolm.workers import blocks, spread

SPLITS = ("train", "val", "test")
LONG = 1000  # bytes that a lone document needs to be cut into train, val and test
_SPACE = re.compile(rb"\s")


def write_corpus(config: DataConfig, folder: Path) -> None:
    """Fills the folder of a corpus: reads, drops, selects, splits. DataError where no document is left."""
    counts, lengths, digests = _write_texts(config, folder / "text.bin")
    rows = _select(config, digests[:, 0], counts)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if len(rows) < len(digests):
        offsets, digests = _compact(folder / "text.bin", offsets, rows), digests[rows]
    splits, notes = _split(config, digests[:, 0]), []
    if len(rows) == 1 and (parts := _cut(config, folder / "text.bin")):
        offsets, digests, splits = parts
        notes = [f"one long document, cut between words: {', '.join(SPLITS[code] for code in splits)} in a row"]
    counts.update({"kept": len(rows), **{split: int((splits == code).sum()) for code, split in enumerate(SPLITS)}})
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "splits.npy", splits)
    identity = fingerprint([config.normalise, _content(digests, splits)])
    report = {"fingerprint": identity, "normalise": config.normalise, "counts": dict(counts), "notes": notes}
    write_json(folder / "report.json", report)


def _write_texts(config: DataConfig, path: Path) -> tuple[Counter[str], np.ndarray, np.ndarray]:
    """Normalises into `path`; the counts, each text's bytes with its newline (n), and its hash (n, 2) uint64."""
    counts: Counter[str] = Counter()
    lengths, digests = array("q"), bytearray()
    with open(path, "wb") as file:
        for texts, hashes, dropped in spread(partial(_normalised, config), blocks(config.documents(counts))):
            file.writelines(texts)
            lengths.extend(map(len, texts))
            digests += hashes
            counts.update(dropped)
    return counts, np.frombuffer(lengths, np.int64), np.frombuffer(digests, "<u8").reshape(-1, 2)


def _normalised(config: DataConfig, documents: list[str]) -> tuple[list[bytes], bytes, Counter[str]]:
    """The texts that stay, each with its newline, their hashes in a row, and how many were dropped, and why."""
    texts, hashes, dropped = list[bytes](), bytearray(), Counter[str]()
    most = config.maxlen or np.inf
    for document in documents:
        text = normalise(document.rstrip("\r\n"), config.normalise)
        if not text or text.isspace():
            dropped["blank"] += 1
        elif text.count(" ") >= most:
            dropped["too_long"] += 1
        else:
            texts.append(text.encode() + b"\n")
            hashes += _digest(texts[-1][:-1])
    return texts, bytes(hashes), dropped


def _select(config: DataConfig, keys: np.ndarray, counts: Counter[str]) -> np.ndarray:
    """The rows to keep: the first of equal texts; then, of n, those at floor(i * n / limit), evenly spaced."""
    rows = np.arange(len(keys))
    if config.dedup:
        rows = np.sort(np.unique(keys, return_index=True)[1])
        counts["duplicate"] = len(keys) - len(rows)
    if config.limit and config.limit < len(rows):
        counts["left_out"] = len(rows) - config.limit
        rows = rows[np.arange(config.limit) * len(rows) // config.limit]
    if not len(rows):
        seen = ", ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in counts.items() if count) or "0 read"
        mend = "raise data.maxlen" if counts["too_long"] else "check the file and its column"
        raise DataError(f"data={config.name}: no document to learn from ({seen}); {mend}")
    return rows


def _compact(path: Path, offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Leaves only `rows` in the file; the new offsets."""
    source = np.memmap(path, np.uint8, "r")
    with open(path.with_suffix(".new"), "wb") as file:
        for row in rows:
            file.write(source[offsets[row] : offsets[row + 1]].data)
    path.with_suffix(".new").replace(path)
    return np.concatenate([[0], np.cumsum(offsets[rows + 1] - offsets[rows])])


def _shares(config: DataConfig) -> tuple[float, float, float]:
    test = config.test if config.split == "hash" else 0.0
    return 1 - config.val - test, config.val, test


def _split(config: DataConfig, keys: np.ndarray) -> np.ndarray:
    """uint8 (n): the place in SPLITS. `hash`: by the text alone, so neither order nor other documents matter."""
    train, val, test = _shares(config)
    if config.split == "tail":
        return (np.arange(len(keys)) >= int(len(keys) * train + 1e-9)).astype(np.uint8)
    place = keys / 2.0**64
    return np.where(place < val, 1, np.where(place < val + test, 2, 0)).astype(np.uint8)


def _cut(config: DataConfig, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Offsets, hashes and splits of a lone document cut contiguously after words; None if short or not to be split."""
    data = np.memmap(path, np.uint8, "r")
    shares = _shares(config)
    splits = np.flatnonzero(shares).astype(np.uint8)
    if len(splits) == 1 or len(data) < LONG:
        return None
    bounds = (np.cumsum([shares[code] for code in splits[:-1]]) * len(data)).astype(int).tolist()
    spaces = [_SPACE.search(data.data, bound) for bound in bounds]  # the space itself becomes the newline
    offsets = np.array([0, *(space.end() for space in spaces if space), len(data)])
    if np.diff(offsets).min() < 2:  # a word as long as a part
        return None
    parts = [data[start : end - 1].tobytes() for start, end in pairwise(offsets.tolist())]
    return offsets, np.frombuffer(b"".join(map(_digest, parts)), "<u8").reshape(-1, 2), splits


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _content(digests: np.ndarray, splits: np.ndarray) -> list[list[int]]:
    """Sums of the hashes modulo 2^64, and the count, of each split. A sum doesn't depend on the order, so that the
    same documents from files in another order are the same corpus: they are scored alike. (xor would miss pairs.)"""
    parts = [digests[splits == code] for code in range(len(SPLITS))]
    return [[*part.sum(axis=0, dtype=np.uint64).tolist(), len(part)] for part in parts]
