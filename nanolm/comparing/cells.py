"""A table's cells as text, the same in the terminal and on the page.

In: a Table. Out: a DataFrame of texts, and the headers of its columns. Knows no terminal, no HTML.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from nanolm.comparing.records import number
from nanolm.comparing.table import Table


def plain(value: Any) -> str:
    """A number without useless digits, any other value as it is, nothing for None and nan."""
    if number(value):
        return str(int(value)) if value == int(value) else f"{value:.6g}"
    return "" if value is None or value != value else str(value)


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {  # column: its header, how a value is written
    "runs": ("n", plain),
    "test_bpb": ("test bits/byte", "{:.4f}".format),
    "val_bpb": ("val bits/byte", "{:.4f}".format),
    "difference": ("to the best", "{:+.4f}".format),
    "verdict": ("verdict", plain),
    "test_ppl": ("test perplexity*", "{:.2f}".format),
    "val_ppl": ("val perplexity*", "{:.2f}".format),
    "test_unk_rate": ("<UNK>", "{:.2%}".format),
    "vocabulary": ("vocabulary", plain),
    "embedding": ("embedding", "{:,.0f}".format),
    "body": ("body", "{:,.0f}".format),
    "tokens_seen": ("tokens", "{:,.0f}".format),
    "seconds": ("seconds", "{:,.0f}".format),
    "tokens_per_s": ("tokens/s", "{:,.0f}".format),
    "memory_mb": ("MB", "{:,.0f}".format),
}
HEADERS = {"rank": "#"} | {key: header for key, (header, _) in COLUMNS.items()}
FOOTNOTE = "* per token: compares within one tokenizer only"


def cells(table: Table) -> pd.DataFrame:
    """The texts of the columns that have something to say; scores as mean ± sd over seeds, differences [interval]."""
    frame = table.frame
    forms = dict.fromkeys(["rank", *table.knobs], plain) | {key: form for key, (_, form) in COLUMNS.items()}
    texts = pd.DataFrame({key: _written(frame[key], form) for key, form in forms.items()})
    for score in ("test_bpb", "val_bpb"):
        texts[score] += _written(frame[f"{score}_sd"], " ± {:.4f}".format)
    texts["difference"] += _written(frame["low"], " [{:+.4f}, ".format) + _written(frame["high"], "{:+.4f}]".format)
    texts.loc[frame["difference"] == 0, "difference"] = ""
    return texts.loc[:, texts.ne("").any()]


def _written(column: pd.Series, form: Callable[[Any], str]) -> pd.Series:
    return pd.Series(["" if pd.isna(value) else form(value) for value in column], column.index, dtype=str)
