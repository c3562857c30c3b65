"""The verb behind evaluate.py: bits per byte of any text under a run, and what each of its tokens cost.

In: a run, and its own split or other data. Out: a table on the terminal; tokens.csv and documents.csv.
Other data is read by the run's normalisation, tokenizer and speller and parted into documents as the run's own was;
every document of it is scored, or those of the split that is asked for where it comes split.
"""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanolm.config import one_of
from nanolm.corpus.corpus import Encoded, encode_corpus, load_corpus
from nanolm.data.base import DataConfig
from nanolm.data.files import Files
from nanolm.errors import ConfigError
from nanolm.files import fingerprint, make_folder, write_atomic
from nanolm.runs.load import load_for_scoring
from nanolm.scoring.floor import floor
from nanolm.scoring.score import Score, encoded_nats, score_nats
from nanolm.scoring.speller import Speller, spell
from nanolm.tokenizer.base import Tokenizer

READING = ("document", "separator", "column", "unescape")  # of data=files: what a document is


def evaluate(
    run: str,
    data: DataConfig | None = None,
    split: str = "test",
    path: Any = None,
    outputs: str | Path = "outputs",
    device: str = "auto",
    precision: str = "fp32",
    quantize: str | None = None,
    typed: Sequence[str] = (),
) -> Score:
    """Scores a split of the run's own corpus, or all of `data`; prints the figures and writes the two files.

    path: where the run's own text lies now, if it has moved. typed: the keys of `data` that are meant as they stand,
    though they may have their default. The files: outputs/evaluations/<run>-<what>-<8 hex digits>/. Raises NanolmError
    for whatever the user can mend.
    """
    one_of("split", split, ("train", "val", "test"))
    if path is not None and data is not None:
        raise ConfigError("path: is where the run's own text lies now; leave it or data out")
    loaded, cache = load_for_scoring(run, outputs, device, precision, quantize), Path(outputs, "cache")
    opened, tokenizer = loaded.run, loaded.tokenizer
    if data is None:
        source, corpus, owner, comes_split = opened.data(), opened.corpus(cache, path), "its own data", True
    else:
        source = whole(read_as(opened.data(), data, typed), split, tokenizer.normalise)
        corpus, owner, comes_split = load_corpus(source, cache, needs=()), f"data={data.label}", is_split(data)
    part = split if comes_split else "train"  # of other data nothing is put aside, unless it comes split
    if not corpus.counts[part]:
        raise ConfigError(
            f"split={split}: {owner} has no {split} documents; take split={'train' if split == 'val' else 'val'}"
        )
    texts, nbytes, encoded = corpus.texts(part), corpus.nbytes(part), encode_corpus(corpus, tokenizer, cache)[part]
    spelling = spell(texts, tokenizer, Speller.load(opened.file("speller.json")), corpus.charge_unk)
    what, place = split if data is None else data.label, opened.folder.resolve()
    name = f"{place.name}-{what}-{fingerprint([str(place), corpus.folder.name, part])[:8]}"
    folder = make_folder(Path(outputs, "evaluations", name))
    nats = encoded_nats(loaded.model, encoded, loaded.model.context, loaded.device, loaded.precision)
    score = score_nats(nats, encoded, nbytes, spelling)
    write_files(folder, encoded, nats, tokenizer, score)
    notes = [f"{f'the {split} split' if comes_split else 'all'} of {owner}", f"data.normalise={tokenizer.normalise}"]
    if loaded.weights != "fp32":
        notes.append(f"weights in {loaded.weights}")
    if loaded.precision == "bf16":
        notes.append("in bf16: not to be compared with scores in fp32")
    print_score({"run": opened.folder, "scored": ", ".join(notes)}, score)
    if (known := floor(source, texts, nbytes)) is not None:
        print(f"{'floor':15} {known:.4f} bits per byte")
    print(f"written to {folder}: tokens.csv (nats), documents.csv (bits)")
    return score


def read_as(own: DataConfig, data: DataConfig, typed: Sequence[str]) -> DataConfig:
    """`data` with what a document is and where it stands as in the run's `own`, but for what was typed; says so."""
    if not isinstance(own, Files) or data.name != Files.name:  # a known corpus says itself how it is read
        return data
    taken = {}
    for name in READING:
        if f"data.{name}" not in typed and getattr(own, name) != getattr(data, name):
            taken[name] = getattr(own, name)
    if taken:
        words = " ".join(f"data.{name}={value}" for name, value in taken.items())
        print(f"read as the run's own text was, with {words}; type another value to change it", file=sys.stderr)
    return replace(data, **taken)


def whole(data: DataConfig, split: str, normalise: str) -> DataConfig:
    """`data` as the run reads text, nothing put aside. ConfigError where the user asked otherwise."""
    if data.normalise not in (normalise, DataConfig.normalise):
        raise ConfigError(f"data.normalise={data.normalise}: the run reads {normalise} text; leave data.normalise away")
    asked: dict[str, tuple[object, object]] = {"data.maxlen": (data.maxlen, None), "data.limit": (data.limit, None)}
    if not is_split(data):
        asked["split"] = (split, "test")
    for key, (value, default) in asked.items():
        if value != default:
            raise ConfigError(f"{key}={value}: every document of other data is scored; leave {key} away")
    return replace(data, normalise=normalise, split="hash", val=0.0, test=0.0, dedup=False)


def is_split(data: DataConfig) -> bool:
    """Whether the text comes split into train, val and test."""
    return bool(data.official_splits(Counter()))


def print_score(about: dict[str, object], score: Score) -> None:
    """Prints what was scored, and the score."""
    spelled = score.spelling.sum() / score.bytes.sum()
    lines = about | {
        "documents": f"{len(score.bytes):,}",
        "bytes": f"{score.bytes.sum():,}",
        "tokens": f"{score.tokens:,}, {score.unk_rate:.2%} of them <UNK>",
        "bits per byte": f"{score.bpb:.4f}, of which {spelled:.4f} spell <UNK>",
        "perplexity": f"{score.perplexity:.2f} a token (same tokenizer only)",
    }
    for name, value in lines.items():
        print(f"{name:15} {value}")


def write_files(folder: Path, encoded: Encoded, nats: np.ndarray, tokenizer: Tokenizer, score: Score) -> None:
    """tokens.csv: a row per scored token, its logprob in nats, <UNK> without its spelling, position 0 after <BOS>.

    documents.csv: the sums of each document. All text is quoted: tokens hold commas, quotes, line ends.
    """
    lengths = np.diff(encoded.offsets)
    rows = pd.DataFrame({"document": np.repeat(np.arange(len(encoded)), lengths)})
    rows["position"] = np.arange(len(rows)) - np.repeat(encoded.offsets[:-1], lengths) - 1
    rows["id"], rows["logprob"] = encoded.ids, -nats
    rows.insert(3, "token", rows["id"].map({i: tokenizer.decode_token(i) for i in rows["id"].unique().tolist()}))
    columns = {"bytes": score.bytes, "tokens": lengths - 1, "bits": score.bits, "spelling_bits": score.spelling}
    documents = pd.DataFrame(columns).rename_axis("document").reset_index()
    for name, table in (("tokens.csv", rows[rows["position"] >= 0]), ("documents.csv", documents)):
        write_atomic(folder / name, table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))
