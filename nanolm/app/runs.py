"""The tab Runs: the comparison of all runs, and the choice of the model. In: the folder of runs. Out: a framed page."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from nanolm.app.models import Models, errors_as_messages
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.page import comparison_page
from nanolm.comparing.report import make_reports
from nanolm.runs.folders import run_folders
from nanolm.web.html import frame


@lru_cache(1)
def comparison(outputs: Path, written: tuple[float, ...]) -> str:
    """compare.py's page of every run under `outputs`; drawn again only when a status has been `written` since."""
    config = CompareConfig(outputs=str(outputs), baselines=False)
    with TemporaryDirectory() as folder:
        reports, unranked = make_reports(config, Path(folder))
        return frame(comparison_page("Runs", reports, unranked), "comparison")


def runs_tab(models: Models, run: gr.Dropdown, here: gr.Tab) -> None:
    """Lays the tab out around the picker `run`."""
    run.render()
    output = gr.HTML(elem_classes="comparison")

    def show() -> str:
        with errors_as_messages():
            states = [folder / "status.json" for folder in run_folders(models.outputs)]
            return comparison(models.outputs, tuple(path.stat().st_mtime for path in states if path.exists()))

    here.select(show, None, output)
