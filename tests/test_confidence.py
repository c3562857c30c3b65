"""The confidence set, held against made-up sweeps whose truth is known: it says 95% and means it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from comparing_runs import config, make_run

from nanolm.comparing.confidence import confidence_set
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.report import make_reports

TABLES = 200


def made_up(
    rng: np.random.Generator, truth: Sequence[float], seeds: int, documents: int
) -> tuple[list[list[float]], list[np.ndarray] | None, np.ndarray | None]:
    """A sweep's scores, bits and bytes; the rows' true scores are `truth`, moved by seeds and by documents."""
    moved = [rng.normal(true, 0.01 if seeds > 1 else 0, (seeds, 1)) for true in truth]
    if not documents:
        return [row[:, 0].tolist() for row in moved], None, None
    nbytes = np.ceil(rng.lognormal(5, 0.7, documents))
    hard = rng.normal(0, 0.3, documents)
    bits = [nbytes * (row + hard + rng.normal(0, 0.05, (1, documents))) for row in moved]
    return [(row.sum(1) / nbytes.sum()).tolist() for row in bits], bits, nbytes


@pytest.mark.parametrize(
    ("rows", "seeds", "documents"),
    [
        (18, 3, 0),
        (8, 1, 60),
        pytest.param(18, 1, 300, marks=pytest.mark.slow),
        pytest.param(12, 2, 300, marks=pytest.mark.slow),
    ],
)
def test_in_95_of_100_sweeps_the_set_holds_all_that_are_best(rows: int, seeds: int, documents: int) -> None:
    rng = np.random.default_rng(rows)
    equal = [1.0] * rows
    alike = sum(len(confidence_set(*made_up(rng, equal, seeds, documents))) == rows for _ in range(TABLES))
    assert 0.91 <= alike / TABLES <= 0.985  # 93 to 97 in 100, and what 200 tables can differ by chance
    truth, held, sizes = [1.0, 1.0, *(1.1 + 0.02 * place for place in range(rows - 2))], 0, 0
    for _ in range(TABLES // 4):
        found = confidence_set(*made_up(rng, truth, seeds, documents))
        held += {0, 1} <= set(found)
        sizes += len(found)
    assert held >= 0.9 * TABLES // 4
    assert sizes / (TABLES // 4) < 3, "what is clearly worse is left out"


def test_without_anything_known_of_chance_there_is_one() -> None:
    assert confidence_set([[1.2], [1.0], [1.1]], None, None) == [1]


def test_compare_says_which_cant_be_told_apart(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for lr, shift in ((0.001, 0.0), (0.002, 0.001), (0.003, 0.9)):
            folder = tmp_path / "sweeps" / "s" / f"{lr}-{seed}"
            make_run(folder, config(optim__lr=lr, seed=seed), shift=shift + 0.002 * seed)
    options = CompareConfig(sweep=str(tmp_path / "sweeps" / "s"), baselines=False, outputs=str(tmp_path))
    reports, _ = make_reports(options, tmp_path)
    assert reports[0].table.notes[0].startswith("These 2 of 3 can't be told from the best at 95%: numbers 1, 2 (by the")
    assert reports[0].table.frame["may_be_best"].tolist() == [True, True, False]
