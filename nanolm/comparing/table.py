"""Records -> one table per corpus: a row per configuration, its seeds folded, the knobs that differ, sorted.

In: records. Out: Tables over a DataFrame, and the records that can't be ranked. Reads no files, draws nothing.
The best row is chosen by val, and what is reported of it and of its distance to the others is test: choosing by test
would flatter what was chosen.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from nanolm.comparing.columns import METRICS, SCORES, format_value, metrics
from nanolm.comparing.record import Record, is_number
from nanolm.config import one_of
from nanolm.files import names

SEEDS = ("seed", "data_seed")  # runs that differ in these alone are one row
NOT_COMPARED = {  # heads of keys that say nothing about a configuration
    *("outputs", "run_name", "group", "tags", "tracking", "threads", "resume", "decode", "samples", "prompts"),
    *("log_every", "checkpoint_seconds", "keep_every", "_wandb", *SEEDS),
}


@dataclass
class Table:
    """The runs on one corpus. `frame`: a row for each configuration, and for each baseline (where `runs` is nan).

    Its columns: rank, knobs, runs (how many, one per seed), records (these), METRICS, the scores' sd, and what
    `verdicts.py` adds.
    """

    corpus: str
    frame: pd.DataFrame
    knobs: list[str]  # keys of the config
    sort: str
    by: list[str]
    score: str  # what chooses: val_bpb; test_bpb where that is asked for, or nothing else is known
    reported: str  # what differences are of: test_bpb, or val_bpb where nothing was tested
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> pd.DataFrame:
        """The rows that are no baselines."""
        return self.frame[self.frame["runs"].notna()]

    @property
    def first(self) -> Record:
        """One run, for what all of them share."""
        return self.runs["records"].iloc[0][0]

    @property
    def floor(self) -> float | None:
        """Bits per byte that no model beats on average, where the runs know them."""
        value = self.first.status.get(self.score.replace("bpb", "floor"))
        return value if is_number(value) else None

    def title(self) -> str:
        """The corpus by its source, documents and fingerprint."""
        config, status = self.first.config, self.first.status
        known = {split: status.get(f"documents.{split}") for split in ("train", "val", "test")}
        counts = [f"{n if is_number(n) else 0:,} {split}" for split, n in known.items()]
        keys = ("data.corpus", "data.dataset", "data.path", "data.train_path", "data")
        source = names(next(filter(None, map(config.get, keys)), "corpus"))
        return f"{source} ({', '.join(counts)}, fingerprint {self.corpus})"

    def add(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Adds rows of baselines, each with a `rank` that names it, and sorts: what lacks a value comes last."""
        frame = pd.concat([self.frame, pd.DataFrame(rows)]) if rows else self.frame
        columns = [*self.by, self.sort.removeprefix("-")]
        rising = [True] * len(self.by) + [not self.sort.startswith("-")]
        self.frame = frame.sort_values(columns, ascending=rising, key=_sortable, kind="stable", ignore_index=True)

    def groups(self) -> pd.DataFrame:
        """For each group of `by`: how many configurations, and their best and mean score."""
        scores = self.runs.groupby(self.by, dropna=False)[self.score]
        return scores.agg(configurations="size", best="min", mean="mean").round(4).reset_index()


def _sortable(column: pd.Series) -> pd.Series:
    return column if is_numeric_dtype(column) else column.map(str, na_action="ignore")


def make_tables(records: Sequence[Record], sort: str, by: Sequence[str]) -> tuple[list[Table], list[Record]]:
    """A table per corpus, the largest first; and the records to be listed only. ConfigError for an unknown column."""
    corpora: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.trouble:
            corpora[str(record.status.get("corpus", "unknown"))].append(record)
    found = [_table(corpus, members, sort, by) for corpus, members in corpora.items()]
    return sorted(found, key=lambda table: -len(table.frame)), [record for record in records if record.trouble]


def _table(corpus: str, records: Sequence[Record], sort: str, by: Sequence[str]) -> Table:
    column = sort.removeprefix("-")
    knobs = differing_keys(records, [column, *by])
    for option, wish in [("sort", column), *(("by", key) for key in by)]:
        one_of(option, wish, [*knobs, *METRICS])
    rows = fold_seeds(records, knobs)
    cells = [{key: knob_value(runs[0], key) for key in knobs} | mean_metrics(runs) for runs in rows]
    frame = pd.DataFrame(cells).assign(runs=[len(runs) for runs in rows], records=rows)
    validated, tested = (bool(frame[score].notna().any()) for score in SCORES)
    score = "test_bpb" if tested and (column == "test_bpb" or not validated) else "val_bpb"
    if column in SCORES:  # a split that no run was scored on can't be sorted by
        sort = sort.replace(column, score)
    table = Table(corpus, frame, knobs, sort, list(by), score, "test_bpb" if tested else "val_bpb")
    table.frame.insert(0, "rank", frame[score].rank(method="min").astype(object))
    if repeats := len(records) - sum(map(len, rows)):
        table.notes.append(f"Left out: {repeats} older runs of the same configuration and seed.")
    return table


def differing_keys(records: Sequence[Record], wished: Sequence[str]) -> list[str]:
    """The keys of the config with more than one value among the runs that have them, and those `wished`."""
    values = dict.fromkeys((key, format_value(value)) for record in records for key, value in record.config.items())
    counts = Counter(key for key, _ in values)
    return [key for key, n in counts.items() if key in wished or (n > 1 and key.split(".")[0] not in NOT_COMPARED)]


def fold_seeds(records: Sequence[Record], knobs: Sequence[str]) -> list[list[Record]]:
    """The runs of each configuration, one per seed: the last given where a seed was run again."""
    folded: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        configuration, seeds = ([format_value(record.config.get(key)) for key in keys] for keys in (knobs, SEEDS))
        folded[str(configuration)][str(seeds)] = record
    return [list(runs.values()) for runs in folded.values()]


def knob_value(record: Record, key: str) -> Any:
    """A value of the config as a cell: lists and truths as text."""
    value = record.config.get(key)
    return str(value) if isinstance(value, list | bool) else value


def mean_metrics(runs: Sequence[Record]) -> dict[str, float]:
    """The means over the seeds of one configuration, and the standard deviations of its scores; nan where unknown."""
    values = pd.DataFrame([metrics(record.status) for record in runs])
    return {**values.mean(), **values[list(SCORES)].std().add_suffix("_sd")}
