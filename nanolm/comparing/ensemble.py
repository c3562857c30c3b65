"""`ensemble=N`: what N seeds of a configuration score together, their probabilities averaged token by token.

In: a Table, and how models are loaded. Out: a row for each configuration with so many seeds. Nothing is trained.
"""

from pathlib import Path

import numpy as np

from nanolm.comparing.table import Table
from nanolm.corpus.corpus import encode_corpus
from nanolm.errors import ConfigError
from nanolm.runs.load import load_for_scoring
from nanolm.runs.run import Run
from nanolm.scoring.score import encoded_nats, score_nats
from nanolm.scoring.speller import spelling_bits
from nanolm.text import counted


def add_ensembles(tables: list[Table], size: int, outputs: str) -> None:
    """Adds their rows to the tables; ConfigError where no configuration has so many seeds."""
    most = max((int(table.runs["runs"].max()) for table in tables), default=0)
    if most < size:
        mend = f"train more: python train.py -m seed=range(1,{size + 1}) ..., or give a smaller one"
        raise ConfigError(f"ensemble={size}: no configuration here has more than {counted(most, 'seed')}; {mend}")
    for table in tables:
        rows = []
        for row in table.runs.to_dict("records"):
            if row["runs"] >= size:
                knobs = {key: row[key] for key in table.knobs}
                folders = [record.name for record in row["records"][:size]]
                rows.append(knobs | {"rank": f"{size} averaged", **ensemble_scores(folders, outputs)})
        table.add(rows)


def ensemble_scores(folders: list[str], outputs: str) -> dict[str, float]:
    """`val_bpb` and `test_bpb` of the mean of the runs' probabilities; NanolmError where their text has gone."""
    first, cache = Run.open(folders[0]), Path(outputs, "cache")
    corpus, tokenizer = first.corpus(cache), first.tokenizer()
    encoded = encode_corpus(corpus, tokenizer, cache)
    splits = [split for split in ("val", "test") if len(encoded[split])]
    sums = {split: np.full(len(encoded[split].ids), -np.inf) for split in splits}  # ln of the sum of probabilities
    for folder in folders:
        loaded = load_for_scoring(folder, outputs)
        for split, total in sums.items():
            nats = encoded_nats(loaded.model, encoded[split], loaded.model.context, loaded.device)
            np.logaddexp(total, -nats.astype(np.float64), out=total)
    scores = {}
    for split, total in sums.items():
        spelling = spelling_bits(corpus, split, tokenizer, cache)
        nats = np.log(len(folders)) - total
        scores[f"{split}_bpb"] = score_nats(nats, encoded[split], corpus.nbytes(split), spelling).bpb
    return scores
