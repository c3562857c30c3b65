"""Pictures: nothing is cut off by margins that are not computed, and a logarithmic axis ends where the values do."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanolm import plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes of every figure that is saved, as they were drawn."""
    found: list[Axes] = []
    savefig = Figure.savefig

    def saved(self: Figure, *args: Any, **options: Any) -> None:
        savefig(self, *args, **options)
        found.append(self.axes[0])

    monkeypatch.setattr(Figure, "savefig", saved)
    return found


@pytest.mark.parametrize(
    "values", [0.34251 + 0.0001 / np.arange(1, 30), np.geomspace(9e6, 1e6, 30), np.full(3, 12345.6)]
)
@pytest.mark.parametrize("label", ["bits per byte on val", "perplexity (per token)"])
def test_no_number_leaves_the_picture(values: np.ndarray, label: str, drawn: list[Axes], tmp_path: Path) -> None:
    plots.curves(tmp_path / "curve.png", "a run", ("epoch", label), {"val": (np.arange(len(values)), values)})
    (axes,) = drawn
    box = axes.get_tightbbox()
    assert box is not None
    left, bottom, right, top = box.extents
    assert min(left, bottom) >= 0
    assert right <= axes.figure.bbox.x1
    assert top <= axes.figure.bbox.y1


def test_a_perplexity_that_falls_far_fills_the_picture(drawn: list[Axes], tmp_path: Path) -> None:
    line = np.arange(60), np.geomspace(2000, 10, 60)
    plots.curves(tmp_path / "curve.png", "a run", ("epoch", "perplexity (per token)"), {"train": line})
    assert 5 < drawn[0].get_ylim()[0] < 10


def test_long_values_leave_room_for_the_picture(drawn: list[Axes], tmp_path: Path) -> None:
    paths = [f"/a/long/way/to/some/folder/{'of texts/' * 20}{name}.txt" for name in "ab"]
    cells = pd.DataFrame(np.eye(2), pd.Index(paths, name="data.path"), pd.Index(paths, name="other"))
    with warnings.catch_warnings(action="error"):  # matplotlib's word for no room is one
        plots.heat_map(tmp_path / "a.png", "scores", cells)
        plots.scores_by_knob(tmp_path / "b.png", ("data.path", "score"), paths, np.ones((3, 2)), np.ones((2, 2)))
    assert all(axes.get_window_extent().width > 200 for axes in drawn)
    assert [label.get_text() for label in drawn[1].get_xticklabels()] == [
        f"/a/long/way… texts/{name}.txt" for name in "ab"
    ]
