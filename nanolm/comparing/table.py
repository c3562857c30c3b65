"""Records -> one table per corpus: a row per configuration, its seeds folded, the knobs that differ, sorted and judged.

In: records. Out: Tables over a DataFrame, and the records that can't be ranked. Reads no files, draws nothing.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from nanolm.comparing.records import Record, number
from nanolm.comparing.statistics import ENOUGH, paired_bootstrap, pooled_sd, seed_margin, verdict
from nanolm.config import one_of
from nanolm.files import names

SEEDS = ("seed", "data_seed")  # runs that differ in these alone are one row
IDLE = {  # heads of keys that say nothing about a configuration
    *("outputs", "run_name", "group", "tags", "tracking", "threads", "resume", "decode", "samples", "prompts"),
    *("log_every", "checkpoint_seconds", "_wandb", *SEEDS),
}
FIGURES = (
    *("test_bpb", "val_bpb", "test_ppl", "val_ppl", "test_unk_rate", "embedding", "body", "vocabulary"),
    *("tokens_seen", "seconds", "tokens_per_s", "memory_mb", "flops"),
)


@dataclass
class Table:
    """The runs on one corpus. `frame`: a row for each configuration, and for each baseline (where `runs` is nan).

    Its columns: rank, knobs, runs (how many, one per seed), records (these), FIGURES, the scores' sd, the judgement.
    """

    corpus: str
    frame: pd.DataFrame
    knobs: list[str]  # keys of the config
    sort: str
    by: list[str]
    score: str  # test_bpb, or val_bpb where nothing was tested
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
        return value if number(value) else None

    def title(self) -> str:
        """The corpus by its source, documents and fingerprint."""
        config, status = self.first.config, self.first.status
        known = {split: status.get(f"documents.{split}") for split in ("train", "val", "test")}
        counts = [f"{n if number(n) else 0:,} {split}" for split, n in known.items()]
        source = names(config.get("data.path") or config.get("data") or "corpus")
        return f"{source} ({', '.join(counts)}, fingerprint {self.corpus})"

    def add(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Adds rows of baselines, each with a `rank` that names it, and sorts: what lacks a value comes last."""
        frame = pd.concat([self.frame, pd.DataFrame(rows)]) if rows else self.frame
        columns = [*self.by, self.sort.removeprefix("-")]
        rising = [*(True for _ in self.by), not self.sort.startswith("-")]
        self.frame = frame.sort_values(columns, ascending=rising, key=_sortable, kind="stable", ignore_index=True)

    def groups(self) -> pd.DataFrame:
        """For each group of `by`: how many configurations, and their best and mean score."""
        scores = self.runs.groupby(self.by, dropna=False)[self.score]
        return scores.agg(configurations="size", best="min", mean="mean").round(4).reset_index()


def _sortable(column: pd.Series) -> pd.Series:
    return column if is_numeric_dtype(column) else column.map(str, na_action="ignore")


def tables(records: Sequence[Record], sort: str, by: Sequence[str]) -> tuple[list[Table], list[Record]]:
    """A table per corpus, the largest first; and the records to be listed only. ConfigError for an unknown column."""
    corpora: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.trouble:
            corpora[str(record.status.get("corpus", "unknown"))].append(record)
    found = [_table(corpus, members, sort, by) for corpus, members in corpora.items()]
    return sorted(found, key=lambda table: -len(table.frame)), [record for record in records if record.trouble]


def _table(corpus: str, records: Sequence[Record], sort: str, by: Sequence[str]) -> Table:
    wishes = [("sort", sort.removeprefix("-")), *(("by", key) for key in by)]
    knobs = differing(records, [wish for _, wish in wishes])
    for option, wish in wishes:
        one_of(option, wish, [*knobs, *FIGURES])
    entries = fold(records, knobs)
    rows = [{key: knob(runs[0], key) for key in knobs} | figures(runs) for runs in entries]
    frame = pd.DataFrame(rows).assign(runs=[len(runs) for runs in entries], records=entries)
    score = "test_bpb" if frame["test_bpb"].notna().any() else "val_bpb"
    table = Table(corpus, frame, knobs, score if sort == "test_bpb" else sort, list(by), score)
    judge(table)
    if repeats := len(records) - sum(map(len, entries)):
        table.notes.append(f"Left out: {repeats} older runs of the same configuration and seed.")
    table.add()
    return table


def differing(records: Sequence[Record], wished: Sequence[str]) -> list[str]:
    """The keys of the config with more than one value among the runs that have them, and those `wished`."""
    values = dict.fromkeys((key, str(value)) for record in records for key, value in record.config.items())
    counts = Counter(key for key, _ in values)
    return [key for key, n in counts.items() if key in wished or (n > 1 and key.split(".")[0] not in IDLE)]


def fold(records: Sequence[Record], knobs: Sequence[str]) -> list[list[Record]]:
    """The runs of each configuration, one per seed: the last given where a seed was run again."""
    folded: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        configuration, seeds = ([record.config.get(key) for key in keys] for keys in (knobs, SEEDS))
        folded[str(configuration)][str(seeds)] = record
    return [list(runs.values()) for runs in folded.values()]


def knob(record: Record, key: str) -> Any:
    """A value of the config as a cell: lists and truths as text."""
    value = record.config.get(key)
    return str(value) if isinstance(value, list | bool) else value


def figures(runs: Sequence[Record]) -> dict[str, float]:
    """The means over the seeds of one configuration, and the standard deviations of its scores; nan where unknown."""
    values = pd.DataFrame([_figures(record.status) for record in runs], columns=list(FIGURES))
    values = values.apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
    return {**values.mean(), **values[["test_bpb", "val_bpb"]].std().add_suffix("_sd")}


def _figures(status: dict[str, Any]) -> dict[str, Any]:
    parts = {key: n for key, n in status.items() if key.startswith("parameters.") and number(n)}
    if not parts:
        return status | {"tokens_seen": status.get("tokens")}
    embedding, output, tokens = (status.get(key, 0) for key in ("parameters.embedding", "parameters.output", "tokens"))
    body = sum(parts.values()) - embedding - output
    flops = 6 * (body + (output or embedding)) * tokens  # tied: one matrix for both
    return status | {"tokens_seen": tokens, "embedding": embedding + output, "body": body, "flops": flops}


def judge(table: Table) -> None:
    """Adds rank, difference to the best, its interval over the documents, the margin over seeds, and the verdict."""
    frame, scores = table.frame, table.frame[table.score]
    best = int(scores.argmin())
    frame.insert(0, "rank", scores.rank(method="min").astype(object))
    frame["difference"] = scores - scores[best]
    frame["low"], frame["high"] = _intervals(table, best).T
    seeds = [[v for record in runs if number(v := record.status.get(table.score))] for runs in frame["records"]]
    margins = [seed_margin(one, seeds[best], seeds) for one in seeds]
    judged = zip(frame["difference"], frame["low"], frame["high"], margins, strict=True)
    frame["verdict"] = [verdict(*row) for row in judged]
    frame.loc[best, "verdict"] = "the best"
    if len(frame) > 1:
        table.notes += _words(frame, *pooled_sd(seeds))


def _intervals(table: Table, best: int) -> np.ndarray:
    """(rows, 2); nan throughout unless every run kept the bits of the same test documents."""
    documents = [run.bits.drop(columns="bits", errors="ignore") for runs in table.frame["records"] for run in runs]
    if table.score != "test_bpb" or documents[0].empty or not all(one.equals(documents[0]) for one in documents):
        return np.full((len(table.frame), 2), math.nan)
    means = np.array([np.mean([run.bits["bits"] for run in runs], axis=0) for runs in table.frame["records"]])
    return paired_bootstrap(means, documents[0]["bytes"].to_numpy(), best)


def _words(frame: pd.DataFrame, sd: float, freedom: int) -> list[str]:
    """What the differences are worth, as sentences."""
    noise = int(frame["verdict"].str.startswith("within").sum())
    words = [f"{noise} of the {len(frame) - 1} differences to the best are within the noise."]
    if frame["low"].notna().any():
        words.append("Brackets: 95% paired bootstrap over the test documents; it doesn't know what another seed gives.")
    else:
        words.append(f"No intervals: they take the bits of at least {ENOUGH} test documents from every run.")
    if freedom:
        return [*words, f"Spread over seeds: sd {sd:.4f} bits per byte, with {freedom} degrees of freedom."]
    return [*words, "One seed each: how much a seed moves the score isn't known here; seed=1,2,3 would tell."]
