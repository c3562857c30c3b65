"""All that is known of a set of runs: for each corpus its table, with baselines, what mattered, and pictures.

In: records, a folder for the pictures. Out: Reports, and the records that can't be ranked. Shows nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanolm.comparing.collect import collect_records
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.ensemble import add_ensembles
from nanolm.comparing.figures import draw_figures
from nanolm.comparing.importance import Importance, find_importance
from nanolm.comparing.record import Record
from nanolm.comparing.reference import add_baselines
from nanolm.comparing.table import Table
from nanolm.comparing.verdicts import ranked_tables


@dataclass
class Report:
    """What is known of the runs on one corpus."""

    table: Table
    importance: Importance | None  # of the knobs; None where too little was varied
    pictures: Mapping[Path, str]  # {PNG file: caption}


def make_reports(config: CompareConfig, folder: Path) -> tuple[list[Report], Sequence[Record]]:
    """The reports of what `config` names, the largest first, their pictures drawn in `folder`; and what isn't ranked.

    NanolmError where there is nothing to compare.
    """
    tables, unranked = ranked_tables(collect_records(config), config.sort, config.by)
    if config.baselines and config.source == "folders":
        for table in tables:
            add_baselines(table, Path(config.outputs, "cache"))
    if config.ensemble:
        add_ensembles(tables, config.ensemble, config.outputs)
    reports = []
    for table in tables:
        prefix = f"{table.corpus[:8]}_" if len(tables) > 1 else ""
        reports.append(Report(table, find_importance(table), draw_figures(table, folder, prefix)))
    return reports, unranked
