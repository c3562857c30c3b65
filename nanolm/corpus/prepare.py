"""Documents -> a folder of normalised, unique, split text: the files that `corpus.Corpus` opens.

In: a DataConfig and an empty folder. Out: `text.bin` (UTF-8, a newline after each document), `offsets.npy` (where each
begins, and the end), `splits.npy` (its place in SPLITS) and `report.json`. Streams: holds some 70 bytes a document.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import combinations
from pathlib import Path

import numpy as np

from nanolm.corpus.losses import Losses, explain
from nanolm.corpus.split import SPLITS, cut_bounds, split_codes
from nanolm.data.base import DataConfig
from nanolm.errors import DataError
from nanolm.files import fingerprint, write_json
from nanolm.text import counted, normalise
from nanolm.workers import in_blocks, spread

FREE = 255  # in place of a split: the document came with none
_TRAIN = SPLITS.index("train")


@dataclass
class NormalisedBlock:
    """What became of some documents: the texts that stay, each with its newline, and their hashes in a row."""

    texts: list[bytes] = field(default_factory=list)
    hashes: bytearray = field(default_factory=bytearray)
    counts: Counter[str] = field(default_factory=Counter)
    losses: Losses = field(default_factory=Losses)


@dataclass
class Written:
    """The documents in a file of text, in order, and what is known of those that were read."""

    lengths: np.ndarray  # int64 (n), bytes with the newline
    digests: np.ndarray  # uint64 (n, 2), of the text
    official: np.ndarray  # uint8 (n), the split that it came with, or FREE
    counts: Counter[str]
    losses: Losses


def write_corpus(config: DataConfig, folder: Path) -> None:
    """Fills the folder of a corpus: reads, drops, selects, splits. DataError where no document is left."""
    path = folder / "text.bin"
    written = _write_texts(config, path)
    counts, digests = written.counts, written.digests
    rows = _select(config, written)
    notes = [*_overlaps(config, written), *explain(config, counts, written.losses)]
    offsets = np.concatenate([[0], np.cumsum(written.lengths)])
    if len(rows) < len(digests):
        offsets, digests = _compact(path, offsets, rows), digests[rows]
    splits = written.official[rows]
    if (splits == FREE).all():
        splits = split_codes(config, digests[:, 0])
        if len(rows) == 1 and (parts := _cut(config, path)):
            offsets, digests, splits = parts
            notes.append(f"one long document, cut into {', '.join(SPLITS[code] for code in splits)} in a row")
    counts.update({"kept": len(rows), **{split: int((splits == code).sum()) for code, split in enumerate(SPLITS)}})
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "splits.npy", splits)
    identity = [config.normalise, _content(digests, splits)]
    if config.charge_unk:  # scored otherwise, so it stands in no table with the others
        identity.append("charge_unk")
    report = {"fingerprint": fingerprint(identity), "normalise": config.normalise, "charge_unk": config.charge_unk}
    write_json(folder / "report.json", report | {"counts": dict(counts), "notes": notes + config.advice(counts)})


def _write_texts(config: DataConfig, path: Path) -> Written:
    """Normalises every document into `path`."""
    counts, losses = Counter[str](), Losses()
    lengths, digests, official = array("q"), bytearray(), bytearray()
    splits = {SPLITS.index(split): texts for split, texts in config.official_splits(counts).items()}
    with open(path, "wb") as file:
        for code, documents in (splits or {FREE: config.documents(counts)}).items():
            for block in spread(partial(_normalised, config), in_blocks(documents)):
                file.writelines(block.texts)
                lengths.extend(map(len, block.texts))
                digests += block.hashes
                official += bytes([code]) * len(block.texts)
                counts.update(block.counts)
                losses.add(block.losses)
    codes = np.frombuffer(official, np.uint8)
    hashes = np.frombuffer(digests, "<u8").reshape(-1, 2)
    return Written(np.frombuffer(lengths, np.int64), hashes, codes, counts, losses)


def _normalised(config: DataConfig, documents: list[str]) -> NormalisedBlock:
    """The texts that stay, and how many were dropped, and why."""
    block = NormalisedBlock()
    most = config.maxlen or np.inf
    texts = [normalise(document.rstrip("\r\n"), config.normalise) for document in documents]
    texts = ["" if text.isspace() else text for text in texts]
    block.losses.count(documents, texts)
    for text in texts:
        if not text:
            block.counts["emptied"] += 1
        elif text.count(" ") >= most:
            block.counts["too_long"] += 1
        else:
            data = text.encode()
            block.texts.append(data + b"\n")
            block.hashes += digest(data)
    return block


def _select(config: DataConfig, written: Written) -> np.ndarray:
    """The rows to keep: the first of equal texts; then, of n, those at floor(i * n / limit), evenly spaced.

    Official val and test parts stay as they were published: what stands there too leaves train, and only train.
    """
    counts, keys = written.counts, written.digests[:, 0]
    published = (written.official != FREE) & (written.official != _TRAIN)
    learnt, others = np.flatnonzero(~published), np.flatnonzero(published)
    if config.dedup:
        learnt = np.sort(learnt[np.unique(keys[learnt], return_index=True)[1]])
        learnt = learnt[~np.isin(keys[learnt], keys[others])]
        counts["duplicate"] = len(keys) - len(learnt) - len(others)
    if config.limit and config.limit < len(learnt):
        counts["left_out"] = len(learnt) - config.limit
        learnt = learnt[np.arange(config.limit) * len(learnt) // config.limit]
    if not len(learnt):
        raise DataError(_nothing_left(config, written))
    return np.sort(np.concatenate([learnt, others]))


def _nothing_left(config: DataConfig, written: Written) -> str:
    """What to say where there is no document to learn from."""
    counts = written.counts
    seen = ", ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in counts.items() if count) or "0 read"
    mend = "raise data.maxlen" if counts["too_long"] else "check the file and its column"
    if counts["emptied"]:
        [mend, *_] = explain(config, Counter(read=1, emptied=counts["emptied"]), written.losses)
    return f"data={config.label}: no document to learn from ({seen}); {mend}"


def _overlaps(config: DataConfig, written: Written) -> list[str]:
    """How many texts stand in two official splits, a line for each two."""
    keys = {split: written.digests[written.official == code, 0] for code, split in enumerate(SPLITS)}
    notes = list[str]()
    for one, other in combinations(SPLITS, 2):
        both = len(np.intersect1d(keys[one], keys[other]))
        if both:
            mend = "left out of train" if config.dedup else "data.dedup=true leaves them out of train"
            there = f"both in {one} and in {other}: {counted(both, 'text')}"
            notes.append(f"{there}; {mend if one == 'train' else 'left as they are'}")
    return notes


def _compact(path: Path, offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Leaves only `rows` in the file; the new offsets."""
    source = np.memmap(path, np.uint8, "r")
    with open(path.with_suffix(".new"), "wb") as file:
        for row in rows:
            file.write(source[offsets[row] : offsets[row + 1]].data)
    path.with_suffix(".new").replace(path)
    return np.concatenate([[0], np.cumsum(offsets[rows + 1] - offsets[rows])])


def _cut(config: DataConfig, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Cuts the lone document in the file; offsets, hashes and splits of its parts, or None if it can't be cut."""
    data = np.memmap(path, np.uint8, "r")
    found = cut_bounds(config, data)
    if found is None:
        return None
    bounds, splits = found
    digests = bytearray()
    with open(path.with_suffix(".new"), "wb") as file:
        for start, end in bounds:
            file.write(data[start:end].data)
            file.write(b"\n")
            digests += digest(data[start:end].data)
    path.with_suffix(".new").replace(path)
    lengths = [end - start + 1 for start, end in bounds]
    return np.concatenate([[0], np.cumsum(lengths)]), np.frombuffer(digests, "<u8").reshape(-1, 2), splits


def digest(data: bytes | memoryview) -> bytes:
    """16 bytes that stand for a text."""
    return blake2b(data, digest_size=16).digest()


def _content(digests: np.ndarray, splits: np.ndarray) -> list[list[int]]:
    """Sums of the hashes modulo 2^64, and the count, of each split. A sum doesn't depend on the order, so that the
    same documents from files in another order are the same corpus: they are scored alike. (xor would miss pairs.)"""
    parts = [digests[splits == code] for code in range(len(SPLITS))]
    return [[*part.sum(axis=0, dtype=np.uint64).tolist(), len(part)] for part in parts]
