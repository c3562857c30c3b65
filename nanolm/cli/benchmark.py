"""The verb behind evaluate.py benchmark=FILE: minimal pairs, of which the right one should be the likelier.

In: a run and a file of pairs, a line of JSON each: good, bad, and perhaps uid, term, field (as BLiMP has them). Out:
accuracies on the terminal; pairs.csv and accuracy.csv.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nanolm.data.readers.lines import read_lines
from nanolm.data.readers.paths import find_sources
from nanolm.data.readers.source import ReadOptions
from nanolm.errors import ConfigError, DataError
from nanolm.files import fingerprint, make_folder, write_atomic
from nanolm.runs.load import load_for_scoring
from nanolm.scoring.pairs import Pair, accuracies, score_pairs
from nanolm.scoring.speller import Speller

GROUPS = ("field", "term", "uid")  # from wide to narrow


def benchmark(
    run: str,
    benchmark: str,
    outputs: str | Path = "outputs",
    device: str = "auto",
    precision: str = "fp32",
    quantize: str | None = None,
    typed: Sequence[str] = (),
) -> pd.DataFrame:
    """Scores the pairs of a file; prints and returns the accuracies (see `scoring.pairs`).

    typed: the keys that were given, of which some make no sense here. Raises NanolmError. The files:
    outputs/benchmarks/<run>-<file>-<8 hex digits>/.
    """
    for key in typed:
        if key.partition(".")[0] in ("data", "split", "path"):
            raise ConfigError(f"{key}: benchmark={benchmark} is scored instead of text; leave {key} out")
    pairs = read_pairs(benchmark)
    loaded = load_for_scoring(run, outputs, device, precision, quantize)
    speller = Speller.load(loaded.run.file("speller.json"))
    table = score_pairs(pairs, loaded.model, loaded.tokenizer, speller, loaded.device, loaded.precision)
    groups = [name for place, name in enumerate(GROUPS) if any(pair.groups[place] for pair in pairs)]
    for place, name in enumerate(GROUPS):
        if name in groups:
            table.insert(place, name, [pair.groups[place] for pair in pairs])
    found = accuracies(table, groups)
    folder = loaded.run.folder.resolve()
    name = f"{folder.name}-{Path(benchmark).name.partition('.')[0]}-{fingerprint([str(folder), benchmark])[:8]}"
    out = make_folder(Path(outputs, "benchmarks", name))
    for file, rows in (("pairs.csv", table), ("accuracy.csv", found)):
        write_atomic(out / file, rows.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))
    print_accuracies(found, len(pairs) - int(found["pairs"][0]))
    print(f"written to {out}: accuracy.csv, pairs.csv (bits of both texts)")
    return found


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


def print_accuracies(found: pd.DataFrame, same: int) -> None:
    """Prints the accuracies of all pairs, and of each field and term; the narrow sets are in the file."""
    if same:
        print(f"{same:,} pairs are the same text twice once they are normalised, and are left out")
    print(f"{'':32} {'pairs':>7} {'known':>7} {'accuracy':>8} {'95% interval':>14} {'spelled':>8}")
    for row in found[found["set"] != "uid"].itertuples():
        name = f"{row.set} {row.name}"
        scores = f"{row.accuracy:8.1%} {row.low:7.1%}-{row.high:.1%}" if row.known else f"{'-':>8} {'-':>14}"
        print(f"{name:32.32} {row.pairs:7,} {row.known:7,} {scores} {row.spelled:8.1%}")
    print("known: without <UNK>, which accuracy is of; spelled: all pairs, <UNK> paying for its spelling")
