"""What a table of runs shows: one row of COLUMNS for each metric and each judgement, with its header and its form.

In: the flat status of a run. Out: its metrics by name; headers and forms for the table. A new metric is one row here
and nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nanolm.comparing.record import is_number

Status = Mapping[str, Any]


def format_value(value: Any) -> str:
    """A number without useless digits (1 and 1.0 are one), any other value as it is, nothing for None and nan."""
    if is_number(value) and not isinstance(value, bool):
        return str(int(value)) if value == int(value) else f"{value:.10g}"
    return "" if value is None or value != value else str(value)


def from_status(key: str) -> Callable[[Status], Any]:
    """A metric that stands in the status under its own name."""
    return lambda status: status.get(key)


def embedding(status: Status) -> float | None:
    """Parameters that are looked up, and of the output where it has its own."""
    known = is_number(status.get("parameters.embedding"))
    parts = ("embedding", "tables", "output")
    return sum(status.get(f"parameters.{part}", 0) for part in parts) if known else None


def body(status: Status) -> float | None:
    """All other parameters."""
    outside = embedding(status)
    total = sum(n for key, n in status.items() if key.startswith("parameters.") and is_number(n))
    return None if outside is None else total - outside


def training_flops(status: Status) -> float | None:
    """6 x tokens x the weights that multiply a token: a tied embedding counts once, as the output."""
    rest, tokens = body(status), status.get("tokens")
    if rest is None or not is_number(tokens):
        return None
    return 6 * (rest + (status.get("parameters.output") or status["parameters.embedding"])) * tokens


@dataclass(frozen=True)
class Column:
    """A column. `metric` finds its value in a run's status; None: `table.py` and `verdicts.py` fill it in."""

    header: str
    form: Callable[[Any], str] = format_value
    metric: Callable[[Status], Any] | None = None
    extra: bool = False  # left to the CSV file and the page where the terminal is narrow


def _metric(header: str, key: str, form: Callable[[Any], str], extra: bool = True) -> Column:
    return Column(header, form, from_status(key), extra)


WHOLE: Callable[[Any], str] = "{:,.0f}".format
COLUMNS: dict[str, Column] = {  # in the order of the table; the knobs stand after the rank
    "rank": Column("#"),
    "runs": Column("n"),
    "val_bpb": _metric("val bits/byte", "val_bpb", "{:.4f}".format, extra=False),
    "test_bpb": _metric("test bits/byte", "test_bpb", "{:.4f}".format, extra=False),
    "difference": Column("to the best", "{:+.4f}".format),
    "verdict": Column("verdict"),
    "val_ppl": _metric("val perplexity*", "val_ppl", "{:.2f}".format),
    "test_ppl": _metric("test perplexity*", "test_ppl", "{:.2f}".format),
    "test_unk_rate": _metric("<UNK>", "test_unk_rate", "{:.2%}".format),
    "vocabulary": _metric("vocabulary", "vocabulary", format_value),
    "embedding": Column("embedding", WHOLE, embedding, extra=True),
    "body": Column("body", WHOLE, body, extra=True),
    "tokens_seen": _metric("tokens seen", "tokens", WHOLE),
    "seconds": _metric("seconds", "seconds", WHOLE),
    "tokens_per_s": _metric("tokens/s", "tokens_per_s", WHOLE),
    "memory_mb": _metric("MB", "memory_mb", WHOLE),
    "flops": Column("FLOPs", "{:.2e}".format, training_flops, extra=True),
}
METRICS = {key: column.metric for key, column in COLUMNS.items() if column.metric}
SCORES = ("val_bpb", "test_bpb")  # the metrics whose spread over seeds is kept, as `<score>_sd`


def metrics(status: Status) -> dict[str, float]:
    """Every metric of a run; nan where it isn't known or isn't finite."""
    values = {key: find(status) for key, find in METRICS.items()}
    return {key: float(value) if is_number(value) else math.nan for key, value in values.items()}


def header(key: str) -> str:
    """The header of a column or knob."""
    return COLUMNS[key].header if key in COLUMNS else key
