"""The baselines as rows of a table: uniform, unigram, 5-gram on each tokenizer's tokens; gzip, xz, the floor.

In: a Table and the cache of corpora. Out: rows among its runs. Where the text is gone or has changed, a line says so.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from nanolm.comparing.table import Table, knob_value
from nanolm.errors import NanolmError
from nanolm.runs.run import Run
from nanolm.scoring.baselines import ORDERS, run_baselines


def add_baselines(table: Table, cache: Path) -> None:
    """Adds their rows; one run of each tokenizer leads to the documents and tokens."""
    chosen = {record.tokenizer: record for records in table.runs["records"] for record in records}
    rows: dict[tuple[str, str], dict[str, Any]] = {}  # by name and, where it depends on the tokens, tokenizer
    for checksum, record in chosen.items():
        try:
            found = run_baselines(Run.open(record.name), cache)
        except NanolmError as error:
            table.notes.append(f"No baselines on the tokens of {record.name}: {error}")
            continue
        tokens = {key: knob_value(record, key) for key in table.knobs if key.split(".")[0] == "tokenizer"}
        for name, scores in pd.DataFrame(found).add_suffix("_bpb").to_dict("index").items():
            row = {"rank": str(name).replace("_", " "), **scores}
            rows[(name, checksum) if name in ORDERS else (name, "")] = tokens | row if name in ORDERS else row
    if table.floor is not None:
        status = table.first.status
        rows["floor", ""] = {"rank": "floor", "val_bpb": status.get("val_floor"), "test_bpb": status.get("test_floor")}
    table.add(list(rows.values()))
