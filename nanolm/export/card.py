"""The model card: what a run is, and its own figures.

In: a run. Out: Markdown in which whatever the run says stands as text.
"""

import html
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from nanolm.errors import NanolmError
from nanolm.files import names
from nanolm.runs.run import Run
from nanolm.scoring.baselines import run_baselines
from nanolm.text import escape_controls
from nanolm.web.html import resource


def model_card(run: Run, kind: str, where: str, cache: Path) -> str:
    """README.md: front matter, how to use it, and the run's own figures. Whatever the run says stands there as text."""
    status, config, name = run.status(), run.config, run.folder.resolve().name
    found, scores = known_baselines(run, cache), {}
    for split in ("val", "test"):
        scores[split] = {"this model": status.get(f"{split}_bpb"), **found.get(split, {})}
        scores[split]["floor"] = status.get(f"{split}_floor")
    facts = {key: config.get(key, {}) for key in ("data", "tokenizer", "model")}
    paths = {key: names(path) for key, path in facts["data"].items() if key.endswith("path") and path}
    facts["data"] = facts["data"] | paths  # no folder of this machine
    facts |= {key: part for key in ("documents", "parameters") if isinstance(part := status.get(key), dict)}
    facts["training"] = {key: status.get(key) for key in ("vocabulary", "epochs", "tokens", "seconds", "test_unk_rate")}
    rows = [(f"{group}.{key}", value) for group, values in facts.items() for key, value in values.items()]
    return Template(resource(f"hub/{kind}.md") + resource("hub/card.md")).substitute(
        title=json.dumps(name),
        name=escape_markdown(name),
        where=where,
        total=escape_markdown(sum(n for n in facts.get("parameters", {}).values() if isinstance(n, int))),
        context=escape_markdown(config["model"]["context"]),
        new=max(1, min(60, int(config["model"]["context"] or 60) // 2)),
        scores=markdown_table(
            (row.replace("_", " "), scores["val"][row], scores["test"].get(row)) for row in scores["val"]
        ),
        facts=markdown_table(row for row in rows if row[1] not in (None, "")),
    )


def markdown_table(rows: Iterable[Iterable[Any]]) -> str:
    """The rows of a Markdown table."""
    return "\n".join(f"| {' | '.join(map(escape_markdown, row))} |" for row in rows)


def escape_markdown(value: Any) -> str:
    """A value as Markdown that shows it: no tag, link, table cell or emphasis can come of it."""
    if value is None:
        return "not measured"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.5g}" if isinstance(value, float) else f"{value:,}"
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(" ".join(str(value).split())))


def known_baselines(run: Run, cache: Path) -> dict[str, dict[str, float]]:
    """{split: {baseline: bits per byte}}; none, with a word, where the run's data has gone or changed."""
    try:
        return run_baselines(run, cache)
    except NanolmError as error:
        print(escape_controls(f"no baselines in the model card: {error}"), file=sys.stderr)
        return {}
