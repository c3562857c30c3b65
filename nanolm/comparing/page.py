"""The comparison as one web page: tables that sort, figures, samples of the ticked runs side by side.

In: Reports, the unranked records. Out: the HTML of a page without any other file.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nanolm.comparing.cells import FOOTNOTE, cell_texts
from nanolm.comparing.charts import table_charts
from nanolm.comparing.columns import format_value, header
from nanolm.comparing.figures import row_labels
from nanolm.comparing.record import Record
from nanolm.comparing.report import Report
from nanolm.comparing.table import Table
from nanolm.text import counted
from nanolm.web.html import Html, grid, page, png, tag


def comparison_page(title: str, reports: Sequence[Report], unranked: Sequence[Record]) -> str:
    """A section for each table: the sentence of what mattered, the rows, interactive figures, pictures, samples."""
    ranked = sum(int(report.table.runs["runs"].sum()) for report in reports)
    head = f"{counted(ranked, 'run')} ranked, {len(unranked)} not. {datetime.now():%Y-%m-%d %H:%M}"
    body = [tag("h1", title), tag("p", head, class_="quiet"), *map(_section, reports)]
    if unranked:
        body.append(tag("h2", "Not ranked"))
        body.append(grid(["run", "why"], [[run.name, run.trouble] for run in unranked], "texts"))
    data = [
        {"rows": _rows(report.table), "charts": table_charts(report.table, report.importance)} for report in reports
    ]
    return page("compare", title, Html("\n".join(body)), data, charts=True)


def _section(report: Report) -> Html:
    table = report.table
    texts = cell_texts(table).rename(columns=header)
    parts = [tag("h2", table.title())]
    if report.importance:
        parts.append(tag("p", f"What mattered: {report.importance.sentence()}", class_="mattered"))
    parts.append(grid(list(texts), texts.to_numpy(), "sortable"))
    parts.append(tag("ul", *(tag("li", note) for note in [*table.notes, FOOTNOTE]), class_="notes"))
    if table.by:
        groups = table.groups().map(format_value)
        parts += [tag("h3", "By group"), grid(list(groups), groups.to_numpy())]
    parts += [tag("h3", "Figures"), tag("div", class_="charts")]
    drawn = [
        tag("figure", png(path.read_bytes(), path.stem), tag("figcaption", caption))
        for path, caption in report.pictures.items()
    ]
    parts.append(tag("details", tag("summary", "The files beside this page"), tag("div", *drawn, class_="grid")))
    parts += [tag("h3", "Samples of the ticked rows"), tag("div", class_="cards")]
    return tag("section", *parts, class_="corpus")


def _rows(table: Table) -> list[dict[str, Any]]:
    """What the page's script has to know of each row: the values that it is sorted by, and of runs the card."""
    values = json.loads(table.frame[list(cell_texts(table))].to_json(orient="values"))
    rows = [{"values": row} for row in values]
    for place, label in row_labels(table).items():
        records = table.frame["records"][place]
        rows[place]["card"] = {
            "label": f"{format_value(values[place][0])}. {label}",
            "folders": "\n".join(record.name for record in records),
            "names": [record.name for record in records],
            "samples": records[0].samples,
            "config": "\n".join(f"{key}: {value}" for key, value in records[0].config.items()),
        }
    return rows
