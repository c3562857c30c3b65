"""Documents -> normalised, unique, split text on disk -> ids on disk. What a second run needs is found, not made again.

In: a DataConfig, later a tokenizer. Out: a Corpus (texts) and one Encoded a split (ids), both memory-mapped: neither is
ever held in memory. Caches are folders named by a fingerprint of what they were made from; parallel jobs share them.
Knows nothing of models and batches.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nanolm.config import plain
from nanolm.corpus.prepare import digest, write_corpus
from nanolm.corpus.split import SPLITS, mend
from nanolm.data.base import DataConfig
from nanolm.errors import ConfigError, DataError
from nanolm.files import fingerprint, read_json
from nanolm.locks import built_once
from nanolm.text import counted
from nanolm.tokenizer.base import BOS, EOS, UNK, Tokenizer, TokenizerConfig, load_tokenizer
from nanolm.workers import BLOCK, spread

FORMAT = 2  # raise it when normalisation or the layout of a cache changes
DROPPED = ("blank", "ragged", "emptied", "too_long", "duplicate", "left_out")  # in this order; emptied by cleaning
UNKNOWN = 0.2  # share of the words of val, from which on a word tokenizer is the wrong one


class Texts(Sequence[str]):
    """The documents of one split, each decoded from the file when asked for."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> None:
        self._data, self._offsets, self._rows = data, offsets, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:  # int: str; slice: list[str]
        rows = np.atleast_1d(self._rows[index])
        ends = zip(self._offsets[rows].tolist(), self._offsets[rows + 1].tolist(), strict=True)
        texts = [self._data[start : end - 1].tobytes().decode() for start, end in ends]
        return texts if isinstance(index, slice) else texts[0]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), 1024):
            yield from self[first : first + 1024]


class Corpus:
    """Normalised documents and their split: a folder that `prepare.py` has filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        report = read_json(folder / "report.json")
        self.fingerprint: str = report["fingerprint"]  # of the documents, whatever their order, and their split
        self.normalise: str = report["normalise"]
        self.counts: dict[str, int] = report["counts"]  # read = the sum of DROPPED + kept
        self.notes: list[str] = report["notes"]
        self.charge_unk: bool = report["charge_unk"]
        self._data = np.memmap(folder / "text.bin", np.uint8, "r")
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        self._splits = np.load(folder / "splits.npy", mmap_mode="r")

    def texts(self, split: str) -> Texts:
        """The documents of `train`, `val` or `test`, in file order."""
        return Texts(self._data, self._offsets, self._rows(split))

    def nbytes(self, split: str) -> np.ndarray:
        """int64, one a document: its bytes in UTF-8 plus 1 for the newline that <EOS> stands for."""
        rows = self._rows(split)
        return np.asarray(self._offsets[rows + 1] - self._offsets[rows])

    def summary(self) -> str:
        """What was read, dropped, kept, and where it went, in one line."""
        parts = [f"{self.counts[key]:,} {key.replace('_', ' ')}" for key in DROPPED if self.counts.get(key)]
        kept = ", ".join(f"{self.counts[split]:,} {split}" for split in SPLITS)
        read = counted(self.counts["read"], "document")
        return "; ".join([f"{read} read", *parts, f"{self.counts['kept']:,} kept: {kept}"])

    def keys(self) -> np.ndarray:
        """uint64 (n): the hash of each document by which `data.split=hash` splits."""
        texts = Texts(self._data, self._offsets, np.arange(len(self._splits)))
        return np.frombuffer(b"".join(digest(text.encode()) for text in texts), "<u8")[::2]

    def _rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self._splits == SPLITS.index(split))


def load_corpus(config: DataConfig, cache: Path, needs: Sequence[str] = ("train", "val")) -> Corpus:
    """The corpus of `config`, prepared under `cache` unless it is there.

    DataError where a file can't be read, no document is left, or a split of `needs` is empty.
    """
    folder = Path(cache) / f"corpus-{fingerprint([FORMAT, type(config).__name__, config.signature()])}"
    corpus = Corpus(built_once(folder, partial(write_corpus, config)))
    for split in needs:
        if not corpus.counts[split] and config.official_splits(Counter()):
            raise DataError("; ".join([f"data={config.label}: its {split} part holds no document", *corpus.notes]))
        if not corpus.counts[split]:
            key = "test" if split == "test" else "val"
            found = f"data.{key}={getattr(config, key)}: no {split} document among {corpus.counts['kept']:,}"
            raise DataError("; ".join([found, mend(config, split, corpus.keys(), needs), *corpus.notes]))
    return corpus


@dataclass
class Encoded:
    """One split as ids: <BOS> ... <EOS> for document i at ids[offsets[i] : offsets[i + 1]]."""

    ids: np.ndarray  # uint16 or uint32, memory-mapped
    offsets: np.ndarray  # int64 (n + 1)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> np.ndarray:
        """The ids of one document."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


def fit_tokenizer(config: TokenizerConfig, corpus: Corpus, cache: Path) -> Tokenizer:
    """The tokenizer fitted on the corpus' training texts; found under `cache` where it has been fitted before."""
    made_from = [FORMAT, corpus.folder.name, type(config).__name__, plain(config)]
    folder = Path(cache) / f"tokenizer-{fingerprint(made_from)}"

    def build(aside: Path) -> None:
        config.fit(corpus.texts("train"), corpus.normalise).save(aside / "tokenizer.json")

    return load_tokenizer(built_once(folder, build) / "tokenizer.json")


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, cache: Path) -> dict[str, Encoded]:
    """Every split as ids, row by row as in `corpus.texts`; found under `cache` where it has been encoded before."""
    if tokenizer.normalise != corpus.normalise:
        mend = f"give data.normalise={tokenizer.normalise}"
        raise ConfigError(f"data.normalise={corpus.normalise}: the tokenizer knows {tokenizer.normalise} text; {mend}")
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    # named by the corpus' folder, not its fingerprint: rows have to be in this corpus' order
    folder = Path(cache) / f"encoded-{fingerprint([FORMAT, corpus.folder.name, tokenizer.fingerprint])}"
    built_once(folder, partial(_encode, corpus, tokenizer, dtype))
    return {split: _open(folder, split, dtype) for split in SPLITS}


def advise(corpus: Corpus, tokenizer: Tokenizer, encoded: dict[str, Encoded]) -> list[str]:
    """What there is to say of the corpus and of the tokenizer on it, a line each."""
    part = encoded["val"] if len(encoded["val"]) else encoded["train"]
    unknown = sum(int((part.ids[first : first + BLOCK] == UNK).sum()) for first in range(0, len(part.ids), BLOCK))
    share = unknown / max(1, len(part.ids) - 2 * len(part))  # <BOS> and <EOS> are no words
    if share <= UNKNOWN:
        return corpus.notes
    mend = "tokenizer=bpe or tokenizer=char knows every text, a lower tokenizer.minfreq more of it"
    return [*corpus.notes, f"{share:.0%} of the tokens are <UNK>; {mend}"]


def _encode(corpus: Corpus, tokenizer: Tokenizer, dtype: Any, folder: Path) -> None:
    for split in SPLITS:
        texts, ends = corpus.texts(split), np.cumsum(corpus.nbytes(split))
        places = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, BLOCK)).tolist()
        bounds = sorted({*places, len(texts)})

        def encoded(rows: tuple[int, int], texts: Texts = texts) -> tuple[list[int], bytes | bytearray]:
            block = texts[slice(*rows)]
            if len(block) == 1:
                return _encode_one(block[0], tokenizer, dtype)
            ids_of = [[BOS, *ids, EOS] for ids in tokenizer.encode_batch(block)]
            sizes = list(map(len, ids_of))
            return sizes, np.fromiter(chain.from_iterable(ids_of), dtype, sum(sizes)).tobytes()

        lengths = array("q", [0])
        with open(folder / f"{split}.ids", "wb") as file:
            # a tokenizer that has threads of its own uses all cores already, and would hang in a fork
            for sizes, ids in (map if tokenizer.threaded else spread)(encoded, pairwise(bounds)):
                lengths.extend(sizes)
                file.write(ids)
        np.save(folder / f"{split}.npy", np.cumsum(lengths))


def _encode_one(text: str, tokenizer: Tokenizer, dtype: Any) -> tuple[list[int], bytearray]:
    """The number of ids of a document that may be long, and the ids."""
    ids = bytearray()
    for some in chain([[BOS]], tokenizer.encode_parts(text), [[EOS]]):
        ids += np.array(some, dtype).tobytes()
    return [len(ids) // np.dtype(dtype).itemsize], ids


def _open(folder: Path, split: str, dtype: Any) -> Encoded:
    offsets = np.load(folder / f"{split}.npy", mmap_mode="r")
    ids = np.memmap(folder / f"{split}.ids", dtype, "r") if offsets[-1] else np.empty(0, dtype)
    return Encoded(ids, offsets)
