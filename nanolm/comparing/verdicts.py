"""How each row of a table stands to the best: the difference, its interval, a verdict; and what that means, in words.

In: a Table. Out: its columns difference, low, high, verdict, and its notes. The chance itself is in `statistics.py`.
"""

import math
from collections.abc import Sequence

import numpy as np

from nanolm.comparing.confidence import confidence_set
from nanolm.comparing.record import Record, is_number
from nanolm.comparing.statistics import (
    ENOUGH,
    Spread,
    bootstrap,
    margins,
    pooled_sd,
    sd_interval,
    seeds_by_documents,
    verdict,
)
from nanolm.comparing.table import Table, make_tables

SPLIT = {"val_bpb": "val", "test_bpb": "test"}


def ranked_tables(records: Sequence[Record], sort: str, by: Sequence[str]) -> tuple[list[Table], list[Record]]:
    """`make_tables` with verdicts, sorted."""
    tables, unranked = make_tables(records, sort, by)
    for table in tables:
        add_verdicts(table)
        add_confidence_set(table)
        table.add()
    return tables, unranked


def add_verdicts(table: Table) -> None:
    """Adds difference to the best, low and high of its interval, and verdict to the frame; sentences to the notes."""
    frame = table.frame
    best = int(frame[table.score].argmin())
    scores = frame[table.reported].to_numpy(float)
    seeds = [[v for run in runs if is_number(v := run.status.get(table.reported))] for runs in frame["records"]]
    sd, freedom = pooled_sd(seeds)
    bits, nbytes = document_bits(table) if table.reported == "test_bpb" else ([], np.zeros(0))
    frame["difference"] = scores - scores[best]
    known = np.array([len(values) > 0 for values in seeds])
    width = np.full(len(frame), math.nan)
    if known[best] and (freedom or bits):
        rows = np.flatnonzero(known)
        place = int(np.flatnonzero(rows == best)[0])
        bits = [bits[row] for row in rows] if bits else []
        resampled = bootstrap(np.array([runs.mean(0) for runs in bits]), nbytes, place) if bits else None
        spread = Spread([len(seeds[row]) for row in rows])
        if freedom:
            spread = Spread(spread.counts, sd, freedom, seeds_by_documents(bits, nbytes) if bits else 0.0)
        width[rows] = margins(scores[rows], place, spread, resampled, table.score == table.reported)
    frame["low"], frame["high"] = frame["difference"] - width, frame["difference"] + width
    frame["verdict"] = [verdict(*pair, bool(freedom)) for pair in zip(frame["difference"], width, strict=True)]
    frame.loc[best, "verdict"] = "the best"
    table.notes = [*_sentences(table, sd, freedom, bool(bits)), *table.notes]


def document_bits(table: Table, split: str = "test") -> tuple[list[np.ndarray], np.ndarray]:
    """Of each row (seeds, documents) bits, and the documents' bytes; nothing unless every run kept the same ones."""
    kept = [[run.bits if split == "test" else run.val_bits for run in records] for records in table.frame["records"]]
    documents = [run.drop(columns="bits", errors="ignore") for runs in kept for run in runs]
    first = documents[0]
    if len(first) < ENOUGH or not all(first.equals(one) for one in documents):
        return [], np.zeros(0)
    return [np.array([run["bits"] for run in runs]) for runs in kept], first["bytes"].to_numpy(float)


def add_confidence_set(table: Table) -> None:
    """Adds the column `may_be_best`, the rows that val can't tell from the best, and a sentence on them."""
    frame = table.frame
    scores = [[v for run in runs if is_number(v := run.status.get("val_bpb"))] for runs in frame["records"]]
    bits, nbytes = document_bits(table, "val")
    several = any(len(row) > 1 for row in scores)
    if len(frame) < 2 or not all(scores) or not (bits or several):
        return
    chosen = confidence_set(scores, bits or None, nbytes if bits else None)
    frame["may_be_best"] = [place in chosen for place in range(len(frame))]
    causes = " and ".join(name for name, there in (("documents", bits), ("seeds", several)) if there)
    ranks = ", ".join(str(int(rank)) for rank in sorted(frame["rank"].iloc[chosen]))
    if len(chosen) == 1:
        sentence = f"Number {ranks} is the best of the {len(frame)} at 95%"
    else:
        sentence = f"These {len(chosen)} of {len(frame)} can't be told from the best at 95%: numbers {ranks}"
    table.notes.insert(0, f"{sentence} (by the {causes} of val).")


def _sentences(table: Table, sd: float, freedom: int, documents: bool) -> list[str]:
    """What the differences are worth."""
    frame, chosen, reported = table.frame, SPLIT[table.score], SPLIT[table.reported]
    words = [_training_precision(table)]
    if table.score == "test_bpb":
        words.append("CHOSEN BY TEST: what is best here is flattered by its choice; sort=val_bpb doesn't do that.")
    if len(frame) < 2:
        return words
    if chosen != reported:
        words.append(f"The best is chosen by {chosen}; differences are those on {reported}.")
    if frame["low"].notna().any():
        noise = int(frame["verdict"].str.startswith("within").sum())
        words.append(_within_noise(noise, len(frame) - 1))
        causes = [name for name, there in (("documents", documents), ("seeds", freedom)) if there]
        words.append(f"Brackets: all of them hold at once in 95% of such tables, over other {' and '.join(causes)}.")
    if not documents:
        words.append(f"Which documents were held out isn't counted: it takes the bits of {ENOUGH} from every run.")
    if freedom:
        low, high = sd_interval(sd, freedom)
        spread = f"sd {sd:.4f} bits per byte (95%: {low:.4f} to {high:.4f}), {freedom} degrees of freedom"
        return [*words, f"Spread over seeds: {spread}."]
    return [*words, "One seed each: how much a seed moves the score isn't known here; seed=1,2,3 would tell."]


def _within_noise(within: int, differences: int) -> str:
    if differences == 1:
        return f"The difference to the best is {'within' if within else 'beyond'} the noise."
    verb = "is" if within == 1 else "are"
    return f"{within} of the {differences} differences to the best {verb} within the noise."


def _training_precision(table: Table) -> str:
    """The precision of the training, where it is the same for all; else the knob tells."""
    runs = [run for records in table.runs["records"] for run in records]
    known = sorted({str(run.config.get("precision") or "unknown") for run in runs})
    if len(known) == 1:
        return f"Precision of the training: {known[0]}."
    return f"Precision of the training: {' or '.join(known)}; rows that differ in it are no seeds of one another."
