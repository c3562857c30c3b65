"""The verb behind evaluate.py benchmark=...: minimal pairs, of which the right one should be the likelier.

In: a run, and a file of pairs, a line of JSON each: good, bad, and perhaps uid, term, field (as BLiMP has them); or the
word tinyplots. Out: accuracies on the terminal, those of a 5-gram beside them; pairs.csv and accuracy.csv; over the
checkpoints that `keep_every` has kept curve.csv and curve.png.
"""

import csv
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
import pandas as pd

from nanolm import plots
from nanolm.corpus.corpus import encode_corpus
from nanolm.data.plot_pairs import plot_pairs
from nanolm.data.readers.lines import read_lines
from nanolm.data.readers.paths import find_sources
from nanolm.data.readers.source import ReadOptions
from nanolm.data.tinyplots import TinyPlots, sources
from nanolm.errors import ConfigError, DataError, NanolmError
from nanolm.files import fingerprint, make_folder, write_atomic
from nanolm.locks import cached
from nanolm.runs.load import Loaded, load_for_scoring
from nanolm.scoring.baselines import KneserNey
from nanolm.scoring.pairs import Pair, PairTexts, accuracies
from nanolm.scoring.score import encoded_nats
from nanolm.scoring.speller import Speller
from nanolm.text import counted

GROUPS = ("field", "term", "uid")  # from wide to narrow
PER_KIND = 200  # pairs of tinyplots
ORDER = 5  # of the n-gram model beside


def benchmark(
    run: str,
    benchmark: str,
    outputs: str | Path = "outputs",
    device: str = "auto",
    precision: str = "fp32",
    quantize: str | None = None,
    checkpoints: bool = False,
    typed: Sequence[str] = (),
) -> pd.DataFrame:
    """Scores the pairs of a file, or tinyplots' own; prints and returns the accuracies (see `scoring.pairs`).

    checkpoints: those that were kept are scored too. typed: the keys that were given, of which some make no sense here.
    Raises NanolmError. The files: outputs/benchmarks/<run>-<file>-<8 hex digits>/.
    """
    for key in typed:
        if key.partition(".")[0] in ("data", "split", "path"):
            raise ConfigError(f"{key}: benchmark={benchmark} is scored instead of text; leave {key} out")
    load = partial(load_for_scoring, run, outputs, device, precision, quantize)
    loaded, cache = load(), Path(outputs, "cache")
    if checkpoints and not loaded.run.kept():
        raise ConfigError(f"checkpoints=true: {loaded.run.folder} has kept none; train with keep_every=100")
    pairs = own_pairs(loaded, cache) if benchmark == TinyPlots.name else read_pairs(benchmark)
    groups = [name for place, name in enumerate(GROUPS) if any(pair.groups[place] for pair in pairs)]
    texts = PairTexts(pairs, loaded.tokenizer, Speller.load(loaded.run.file("speller.json")))
    for place, name in enumerate(groups):
        texts.table.insert(place, name, [pair.groups[GROUPS.index(name)] for pair in pairs])
    nats = model_nats(loaded, texts)
    bits, tokens = texts.bits(nats), texts.token_bits(nats)
    found, table = accuracies(texts.table, groups, bits), texts.table.assign(good_bits=bits[:, 0], bad_bits=bits[:, 1])
    table["good_tokens"], table["bad_tokens"] = tokens.T
    found["tokens"] = accuracies(texts.table.assign(known=True), groups, tokens)["accuracy"]
    if (beside := ngram_bits(loaded, texts, cache)) is not None:
        table["good_5gram"], table["bad_5gram"] = beside.T
        other = accuracies(texts.table, groups, beside)
        found["accuracy_5gram"], found["off_5gram"] = other["accuracy"], other["off"]
    folder = loaded.run.folder.resolve()
    name = f"{folder.name}-{Path(benchmark).name.partition('.')[0]}-{fingerprint([str(folder), benchmark])[:8]}"
    out = make_folder(Path(outputs, "benchmarks", name))
    for file, rows in (("pairs.csv", table), ("accuracy.csv", found)):
        write_csv(out / file, rows.dropna(axis="columns", how="all"))
    print_accuracies(found, int(texts.table["same"].sum()))
    if checkpoints:
        scores = {}
        for step, path in loaded.run.kept().items():
            kept = model_nats(load(which=path.stem), texts)
            scores[step] = accuracies(texts.table, groups, texts.bits(kept))
        draw_curve(out, f"{folder.name} on {Path(benchmark).name.partition('.')[0]}", scores)
    print(f"written to {out}: {', '.join(sorted(file.name for file in out.iterdir()))}")
    return found


def model_nats(loaded: Loaded, texts: PairTexts) -> np.ndarray:
    """The nats of each token of the texts under the model."""
    return encoded_nats(loaded.model, texts.encoded, loaded.model.context, loaded.device, loaded.precision)


def ngram_bits(loaded: Loaded, texts: PairTexts, cache: Path) -> Optional[np.ndarray]:
    """The same under a Kneser-Ney 5-gram of the run's own training text; None, with a word, where that has gone."""
    try:
        train = encode_corpus(loaded.run.corpus(cache), loaded.tokenizer, cache)["train"]
    except NanolmError as error:
        print(f"no 5-gram beside: {error}", file=sys.stderr)
        return None
    return texts.bits(KneserNey(train, len(loaded.tokenizer), ORDER).nats(texts.encoded))


def own_pairs(loaded: Loaded, cache: Path) -> list[Pair]:
    """The pairs of tinyplots; ConfigError for a run that reads other than clean text."""
    if (mode := loaded.tokenizer.normalise) != "clean":
        raise ConfigError(f"benchmark=tinyplots: its pairs are clean text, the run reads data.normalise={mode}")
    path = cache / f"tinyplots-pairs-{fingerprint([PER_KIND, sources()])}.json"
    rows = cached(path, lambda: plot_pairs(PER_KIND))
    return [Pair(good, bad, (field, kind, ""), (own, other)) for field, kind, good, bad, own, other in rows]


def read_pairs(pattern: str) -> list[Pair]:
    """The pairs of a jsonl file, plain or packed; `blimp` is blimp.jsonl.gz too. DataError names a line without one."""
    known = (name for ending in ("", ".jsonl", ".jsonl.gz") if Path(name := pattern + ending).exists())
    [source, *_] = find_sources("benchmark", next(known, pattern))
    pairs = []
    for number, line in enumerate(read_lines(source, ReadOptions()), 1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
            good, bad = row["good"], row["bad"]
            groups = tuple(str(row.get(name, "")) for name in GROUPS)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            mend = 'a line is {"good": "the dog barks", "bad": "the dog bark"}, perhaps with field, term, uid'
            raise DataError(f"{source}: line {number} holds no pair; {mend}") from error
        if not (isinstance(good, str) and isinstance(bad, str)):
            raise DataError(f"{source}: line {number}: good and bad must be texts")
        pairs.append(Pair(good, bad, groups))
    if not pairs:
        raise DataError(f"{source}: holds no pairs")
    return pairs


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """A table, all its texts quoted."""
    write_atomic(path, rows.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))


def draw_curve(folder: Path, title: str, scores: dict[int, pd.DataFrame]) -> None:
    """curve.csv: the accuracies of each checkpoint; curve.png: those of all pairs and of each widest set."""
    rows = pd.concat([found.assign(step=step) for step, found in scores.items()])
    rows = rows[["step", *(name for name in rows if name != "step")]]
    write_csv(folder / "curve.csv", rows.dropna(axis="columns", how="all"))
    lines = {}
    for (kind, name), part in rows[rows["set"].isin(rows["set"].unique()[:2])].groupby(["set", "name"], sort=False):
        lines[name or kind] = (part["step"].to_numpy(), part["accuracy"].to_numpy())
    plots.panels(folder / "curve.png", title, "step", {"accuracy": lines}, ["accuracy"])


def print_accuracies(found: pd.DataFrame, same: int) -> None:
    """Prints the accuracies of all pairs, and of each field and term; the narrow sets are in the file."""
    if same:
        print(f"left out as the same text twice once they are normalised: {counted(same, 'pair')}")
    beside, exact = "accuracy_5gram" in found, found["exact_odds"].notna().any()
    heads = [f"{'':32} {'pairs':>7} {'known':>7} {'accuracy':>8} {'95% interval':>14} {'spelled':>8} {'tokens':>8}"]
    heads += [f"{'5-gram':>8}"] if beside else []
    heads += [f"{'odds':>6} {'exact':>6} {'off':>5}"] if exact else []
    print(*heads)
    for row in found[found["set"] != "uid"].to_dict("records"):
        name, score = f"{row['set']} {row['name']}", "-"
        if row["known"]:
            score = f"{row['accuracy']:8.1%} {row['low']:7.1%}-{row['high']:.1%}"
        line = [f"{name:32.32} {row['pairs']:7,} {row['known']:7,} {score:>23} {row['spelled']:8.1%}"]
        line.append(f"{row['tokens']:8.1%}")
        if beside:
            line.append(f"{row['accuracy_5gram']:8.1%}")
        if not math.isnan(row["off"]):
            line.append(f"{row['odds']:6.2f} {row['exact_odds']:6.2f} {row['off']:5.2f}")
        print(*line)
    print("known: without <UNK>, which accuracy is of; spelled: all pairs, <UNK> paying for its spelling; tokens: all")
    print("pairs by their own tokens alone, without <EOS> and spelling, as lm-evaluation-harness has it")
    if exact:
        print("odds, exact, off: log2 odds of the pairs that are both possible, the grammar's, and the mean distance")
