"""Which knob mattered: shares known beforehand, on full grids and on others; and the sentence that says it."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from comparing_runs import config

from nanolm.comparing.fanova import LEAF, TREES, decompose_forest, decompose_grid, grid_parts, leaves, tree_parts
from nanolm.comparing.importance import find_importance
from nanolm.comparing.record import Record, flatten
from nanolm.comparing.table import Table
from nanolm.comparing.verdicts import ranked_tables


def test_a_grid_is_taken_apart_exactly() -> None:
    a, b, c = np.array([-1.0, 0, 1]), np.array([-2.0, 2]), np.array([0.0, 1, 2, 3])
    means = 5 + a[:, None, None] + b[:, None] + 0 * c + (a[:, None] * b)[:, :, None]
    parts = grid_parts(means)
    assert parts[(0,)] == pytest.approx(2 / 3)
    assert parts[(1,)] == pytest.approx(4)
    assert parts[(2,)] == pytest.approx(0)
    assert parts[(0, 1)] == pytest.approx(2 / 3 * 4)
    assert sum(parts.values()) == pytest.approx(means.var())


def test_what_the_seeds_add_by_chance_is_taken_away() -> None:
    rng, found = np.random.default_rng(0), []
    a = np.array([-1.0, 1, 0, 2])[:, None] * 0.02  # variance 0.0005, the seeds' 0.0001: shares 83% and 17%
    for _ in range(300):
        runs = a[..., None] + rng.normal(0, 0.01, (4, 5, 3))
        sd = runs.std(2, ddof=1)
        found.append(decompose_grid(runs.mean(2), np.full((4, 5), 3), float((sd**2).mean())))
    assert np.mean([one.parts[(0,)] for one in found]) == pytest.approx(0.83, abs=0.02)
    assert np.mean([one.noise for one in found]) == pytest.approx(0.17, abs=0.02)
    assert np.mean([one.parts[(1,)] + one.parts[(0, 1)] for one in found]) < 0.03
    assert all(sum(one.parts.values()) + one.rest + one.noise == pytest.approx(1) for one in found)
    means, errors = found[0].marginals[0]
    assert means == pytest.approx(a[:, 0], abs=0.012)
    assert errors == pytest.approx(0.01 / np.sqrt(15), rel=0.5)


def function(x: np.ndarray) -> np.ndarray:
    """Over [0, 1]: variances 3/12, 0.75/12 and, of the pair, 1/144 * 4."""
    return np.sqrt(3) * x[:, 0] + np.sqrt(0.75) * x[:, 1] + 2 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)


def test_a_forest_finds_the_shares_where_there_is_no_grid() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((400, 3))
    places = [np.linspace(0, 1, 5)] * 3
    found = decompose_forest(values, function(values), 0.0, places)
    parts = np.array([3 / 12, 0.75 / 12, 4 / 144])
    expected = parts / parts.sum()
    assert [found.parts[axes] for axes in ((0,), (1,), (0, 1))] == pytest.approx(expected, abs=0.05)
    assert found.parts[(2,)] < 0.02
    assert found.marginals[0][0] == pytest.approx(np.sqrt(3) * places[0] + np.sqrt(0.75) / 2, abs=0.2)


def test_a_forest_agrees_with_brute_force_on_the_same_table() -> None:
    """Every tree of scikit-learn's asked at 8,000 places. Optuna 2.10's own fANOVA fails with a numpy of today."""
    from sklearn.ensemble import RandomForestRegressor

    values = np.random.default_rng(4).random((150, 3))
    scores = function(values) + 0.3 * values[:, 2] ** 2
    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=0).fit(values, scores)
    middles = (np.arange(20) + 0.5) / 20
    places = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), -1).reshape(-1, 3)
    expected = np.zeros(6)
    for tree in forest.estimators_:
        cells = tree.predict(places).reshape(20, 20, 20)
        a, b, c = cells.mean((1, 2)), cells.mean((0, 2)), cells.mean((0, 1))
        pairs = [cells.mean(2).var() - a.var() - b.var(), cells.mean(1).var() - a.var() - c.var()]
        pairs.append(cells.mean(0).var() - b.var() - c.var())
        expected += np.array([a.var(), b.var(), c.var(), *pairs]) / cells.var()
    found = np.array(list(decompose_forest(values, scores, 0.0, [np.array([0.5])] * 3).parts.values()))
    assert found / found.sum() == pytest.approx(expected / expected.sum(), abs=0.01)


def test_a_forest_doesnt_explain_noise() -> None:
    rng = np.random.default_rng(1)
    found = decompose_forest(rng.random((60, 3)), rng.normal(0, 0.01, 60), 0.0001, [np.array([0.5])] * 3)
    assert sum(found.parts.values()) < 0.1
    assert found.noise > 0.7


def test_a_tree_is_taken_apart_as_a_fine_grid_of_its_predictions_is() -> None:
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(2)
    values = np.round(rng.random((80, 3)), 1) + 0.05  # thresholds fall on tenths, so cells of a tenth are exact
    tree = DecisionTreeRegressor(min_samples_leaf=2, random_state=0).fit(values, function(values))
    middles = (np.arange(20) + 0.5) / 20
    cells = tree.predict(np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), -1).reshape(-1, 3))
    found, whole = tree_parts(*leaves(tree.tree_, 3))
    expected = grid_parts(cells.reshape(20, 20, 20))
    assert whole == pytest.approx(cells.var(), rel=1e-3)
    assert [found[axes] for axes in expected] == pytest.approx(list(expected.values()), abs=1e-3)


def table_of(runs: list[tuple[dict[str, Any], float]]) -> Table:
    """The table of runs given as (changes of the config, score)."""
    status = {"state": "finished", "corpus": "c"}
    records = [Record(f"run{i}", flatten(config(**c)), status | {"val_bpb": s}) for i, (c, s) in enumerate(runs)]
    (table,), _ = ranked_tables(records, "val_bpb", [])
    return table


def test_a_sentence_says_what_mattered() -> None:
    rng, runs = np.random.default_rng(0), []
    for minfreq, dims, seed in product((1, 5, 20), (32, 64), (1, 2, 3)):
        change = {"tokenizer__minfreq": minfreq, "model__dims": dims, "seed": seed}
        runs.append((change, 2 + 0.1 * minfreq**0.5 + 0.001 * dims / 32 + rng.normal(0, 0.002)))
    found = find_importance(table_of(runs))
    assert found
    assert next(iter(found.shares)) == "tokenizer.minfreq"
    assert found.sentence().startswith("tokenizer.minfreq explains 100%; what is left is within the seeds' noise (0%)")
    assert "exact, over a full grid of 6 configurations" in found.how
    assert found.marginals["tokenizer.minfreq"].values == [1, 5, 20]
    one_seed = find_importance(table_of([run for run in runs if run[0]["seed"] == 1]))
    assert one_seed
    assert one_seed.noise is None


def test_knobs_of_all_kinds_without_a_grid() -> None:
    rng, runs = np.random.default_rng(3), []
    for place in range(40):
        lr, kind = float(10 ** rng.uniform(-4, -1)), ("char", "word", "bpe")[place % 3]
        change: dict[str, Any] = {"optim__lr": lr, "tokenizer__name": kind}
        if kind != "char":  # a key that not every option has
            change["tokenizer__minfreq"] = int(rng.integers(1, 4))
        runs.append((change, 2 + 0.1 * np.log10(lr) ** 2 / 4 + {"char": 0.5, "word": 0.0, "bpe": 0.0}[kind]))
    found = find_importance(table_of(runs))
    assert found
    assert found.shares["optim.lr"] + found.shares["tokenizer"] > 0.5
    assert len(found.marginals["optim.lr"].values) == 33
    assert found.marginals["tokenizer"].values == ["bpe", "char", "word"]
    assert "by a forest of 64 trees over 40 runs" in found.sentence()


def test_where_nothing_can_be_said() -> None:
    assert find_importance(table_of([({}, 2.0)])) is None
    assert find_importance(table_of([({"model__dims": 1}, 2.0), ({"model__dims": 2}, 2.1)])) is None
    assert find_importance(table_of([({"model__dims": d}, 2.0) for d in (1, 2, 3)])) is not None
