"""The jobs of a sweep as lists of overrides: every combination, or points of a low-discrepancy sequence.

In: parsed overrides. Out: overrides of each job. Seeds are crossed with the points, never drawn.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override

from nanolm.config import between
from nanolm.errors import ConfigError

SEEDS = ("seed", "data_seed")  # jobs that differ in these alone are one configuration


def points(overrides: Sequence[Override], n_trials: int | None, seed: int) -> list[list[str]]:
    """The overrides of each job: all combinations, or `n_trials` points of them; ConfigError where that is unclear.

    More trials keep the earlier points.
    """
    between("hydra.sweeper.n_trials", n_trials, 1)
    drawn = [override for override in overrides if override.is_sweep_override() and not is_seed(override)]
    intervals = [override for override in drawn if override.is_interval_sweep()]
    if intervals and n_trials is None:
        raise ConfigError(f"{intervals[0].input_line}: how many points of it? hydra.sweeper.n_trials=32")
    if not intervals:
        grid = combinations(overrides)
        if n_trials is None or n_trials >= len(combinations(drawn)):
            return grid
    rest = combinations([override for override in overrides if override not in drawn])
    chosen: dict[tuple[str, ...], None] = {}
    for place in sequence(len(drawn), seed):
        chosen[tuple(at(override, u) for override, u in zip(drawn, place, strict=True))] = None
        if len(chosen) == n_trials:
            break
    return [[*point, *others] for point in chosen for others in rest]


def is_seed(override: Override) -> bool:
    """Whether it is one of the seeds that jobs of one configuration differ in."""
    return override.get_key_element().lstrip("+") in SEEDS


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Every combination of their values."""
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(list(overrides), None)
    return batches[0]


def at(override: Override, u: float) -> str:
    """`key=value` at a share `u` (from 0 to below 1) of what is swept."""
    key, value = override.get_key_element(), override.value()
    if not isinstance(value, IntervalSweep):
        texts = list(override.sweep_string_iterator())
        return f"{key}={texts[int(u * len(texts))]}"
    low, high = value.start, value.end
    if low is None or high is None or not low < high or ("log" in value.tags and low <= 0):
        raise ConfigError(f"{override.input_line}: must be an interval(low, high), above 0 with tag(log, ...)")
    whole = isinstance(low, int) and isinstance(high, int)
    if whole:
        high += 1
    found = low * (high / low) ** u if "log" in value.tags else low + u * (high - low)
    return f"{key}={int(found)}" if whole else f"{key}={found:.4g}"


def sequence(dimensions: int, seed: int) -> Any:
    """Points of [0, 1)^dimensions that fill it evenly, without end: the additive recurrence R_d (Roberts 2018)."""
    ratio = 2.0  # the root of x^(d+1) = x + 1
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = [ratio ** -(place + 1) for place in range(dimensions)]
    number = seed - 0.5
    while True:
        yield [(0.5 + number * step) % 1.0 for step in steps]
        number += 1


def configurations(jobs: Sequence[Sequence[str]]) -> list[list[int]]:
    """The numbers of the jobs of each configuration: those that differ in their seeds alone."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, overrides in enumerate(jobs):
        rest = (word for word in overrides if word.lstrip("+").partition("=")[0] not in SEEDS)
        groups.setdefault(tuple(rest), []).append(number)
    return list(groups.values())
