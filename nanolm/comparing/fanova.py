"""How much of the variance of a score each knob explains, alone and in pairs: functional ANOVA.

In: scores over values of knobs, coded as numbers. Out: shares of the variance, and marginal curves. Knows no runs.
Hutter, Hoos & Leyton-Brown (2014), An Efficient Approach for Assessing Hyperparameter Importance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

TREES = 64
LEAF = 2  # runs that a leaf of a tree holds at least: one alone would be noise
Parts = dict[tuple[int, ...], float]  # by the places of one knob or of two


@dataclass
class Decomposition:
    """The variance of one run's score taken apart; the shares sum to 1."""

    parts: Parts
    rest: float  # of three or more knobs together; by a forest also what it didn't learn
    noise: float  # of the seeds; 0 where their spread isn't known
    marginals: list[tuple[np.ndarray, np.ndarray]]  # per knob, at each place: mean scores, their standard errors


def grid_parts(means: np.ndarray) -> Parts:
    """The variance of each main effect and of each pair's interaction in a full grid, one axis per knob, uniform."""
    centred, found = means - means.mean(), Parts()
    for size in (1, 2):
        for axes in combinations(range(means.ndim), size):
            others = tuple(axis for axis in range(means.ndim) if axis not in axes)
            below = sum(found[axes_below] for axes_below in found if set(axes_below) < set(axes))
            found[axes] = max(0.0, float((centred.mean(others) ** 2).mean()) - below)
    return found


def decompose_grid(means: np.ndarray, counts: np.ndarray, variance: float) -> Decomposition:
    """Exact, over a full grid. means: of each cell over its seeds, counts: how many; variance: of a score over seeds.

    What the seeds add to a component by chance, their variance times its degrees of freedom, is taken away from it.
    """
    found, cells = grid_parts(means), means.size
    of_mean = variance * float((1 / counts).mean())
    degrees = {axes: int(np.prod([means.shape[axis] - 1 for axis in axes])) for axes in found}
    higher = max(0.0, float(means.var()) - sum(found.values()))
    parts = {axes: max(0.0, value - of_mean * degrees[axes] / cells) for axes, value in found.items()}
    rest = max(0.0, higher - of_mean * (cells - 1 - sum(degrees.values())) / cells)
    total = (sum(parts.values()) + rest + variance) or 1.0
    marginals = []
    for axis, size in enumerate(means.shape):
        others = tuple(other for other in range(means.ndim) if other != axis)
        runs_in_each = cells / size
        errors = np.sqrt(variance * (1 / counts).mean(others) / runs_in_each)
        marginals.append((means.mean(others), errors))
    return Decomposition({axes: v / total for axes, v in parts.items()}, rest / total, variance / total, marginals)


def decompose_forest(
    values: np.ndarray, scores: np.ndarray, variance: float, places: Sequence[np.ndarray], seed: int = 0
) -> Decomposition:
    """By a random forest, where the values are no full grid. values: (runs, knobs) in [0, 1], scores: (runs,).

    places: of each knob, where its marginal curve is wanted.

    Every tree is taken apart exactly by the volumes of its leaves; shares are of what the forest predicts of runs that
    a tree hasn't seen, so a knob that explains nothing gets nothing.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, oob_score=True, random_state=seed)
    forest.fit(values, scores)
    known = np.isfinite(forest.oob_prediction_)
    missed = float(((scores - forest.oob_prediction_)[known] ** 2).mean())
    total = float(scores.var())
    explained = min(1.0, max(0.0, 1 - missed / total)) if total else 0.0
    noise = min(1 - explained, variance / total) if total else 0.0
    knobs = values.shape[1]
    sums: Parts = {axes: 0.0 for size in (1, 2) for axes in combinations(range(knobs), size)}
    curves: list[list[np.ndarray]] = [[] for _ in range(knobs)]
    used = 0
    for tree in forest.estimators_:
        boxes = leaves(tree.tree_, knobs)
        for axis in range(knobs):
            curves[axis].append(_curve(*boxes, axis, places[axis]))
        found, whole = tree_parts(*boxes)
        if whole > 0:
            used += 1
            sums = {axes: sums[axes] + found[axes] / whole for axes in sums}
    parts = {axes: explained * value / max(1, used) for axes, value in sums.items()}
    marginals = [(np.mean(each, 0), np.std(each, 0)) for each in curves]
    return Decomposition(parts, max(0.0, 1 - noise - sum(parts.values())), noise, marginals)


def tree_parts(low: np.ndarray, high: np.ndarray, predicted: np.ndarray) -> tuple[Parts, float]:
    """The variance of each main effect and pair under a tree's leaves, uniform over the unit cube; and the whole."""
    mean = _marginal(low, high, predicted, ())[0].item()
    found = Parts()
    for size in (1, 2):
        for axes in combinations(range(low.shape[1]), size):
            marginal, sizes = _marginal(low, high, predicted, axes)
            below = sum(found[one] for one in found if set(one) < set(axes))
            found[axes] = max(0.0, float((sizes * (marginal - mean) ** 2).sum()) - below)
    return found, float((np.prod(high - low, axis=1) * (predicted - mean) ** 2).sum())


def leaves(tree: object, knobs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of a scikit-learn tree's leaves in the unit cube, (leaves, knobs) low and high, and their values."""
    low, high, predicted = [], [], []
    for node, below, above in _walk(tree, 0, np.zeros(knobs), np.ones(knobs)):
        low.append(below)
        high.append(above)
        predicted.append(tree.value[node].item())  # type: ignore[attr-defined]
    return np.array(low), np.array(high), np.array(predicted)


def _walk(tree: object, node: int, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    left, right = (int(children[node]) for children in (tree.children_left, tree.children_right))  # type: ignore[attr-defined]
    if left < 0:
        yield node, low, high
        return
    axis, at = int(tree.feature[node]), float(tree.threshold[node])  # type: ignore[attr-defined]
    below, above = high.copy(), low.copy()
    below[axis] = above[axis] = at
    yield from _walk(tree, left, low, below)
    yield from _walk(tree, right, above, high)


def _marginal(
    low: np.ndarray, high: np.ndarray, predicted: np.ndarray, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over all other knobs in each cell that the leaves cut `axes` (one or two) into, and the cells' sizes."""
    others = [axis for axis in range(low.shape[1]) if axis not in axes]
    weights = np.prod(high[:, others] - low[:, others], axis=1) * predicted
    if not axes:
        return np.array([weights.sum()]), np.ones(1)
    inside, sizes = [], []
    for axis in axes:
        cuts = np.unique(np.concatenate([low[:, axis], high[:, axis]]))
        middles = (cuts[1:] + cuts[:-1]) / 2
        inside.append(((low[:, axis] <= middles[:, None]) & (middles[:, None] < high[:, axis])).astype(float))
        sizes.append(np.diff(cuts))
    if len(axes) == 1:
        return inside[0] @ weights, sizes[0]
    return (inside[0] * weights) @ inside[1].T, np.outer(*sizes)


def _curve(low: np.ndarray, high: np.ndarray, predicted: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """The mean over all other knobs at each of `places` of one."""
    others = [other for other in range(low.shape[1]) if other != axis]
    weights = np.prod(high[:, others] - low[:, others], axis=1) * predicted
    at = np.minimum(places, 1 - 1e-9)[:, None]
    return np.asarray(((low[:, axis] <= at) & (at < high[:, axis])).astype(float) @ weights)
