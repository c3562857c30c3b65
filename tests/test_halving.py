"""Successive halving: which configurations go on, whoever ends first; and a sweep that does so, with faked jobs."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nanolm.errors import ConfigError
from nanolm.sweep.points import configurations, points
from nanolm.sweep.rule import Halving, Result, Rule


def rule(rungs: Sequence[float] = (1 / 9, 1 / 3), eta: float = 3, confidence: float | None = None) -> Rule:
    return Rule(list(rungs), eta, confidence, extra=0.25)


def finish(state: Halving, scores: Sequence[float], chance: random.Random | None = None) -> None:
    """Trains whatever is due, one job at a time, in any order; a job's score is the same at every rung."""
    while due := state.due():
        job, rung = chance.choice(due) if chance else due[0]
        state.results[job, rung] = Result(scores[job])


def trained(state: Halving) -> list[list[int]]:
    return [state.contenders(rung) for rung in range(len(state.rule.shares))]


def test_the_best_third_goes_on() -> None:
    state = Halving([[job] for job in range(16)], rule())
    finish(state, [float(job) for job in range(16)])
    assert trained(state) == [list(range(16)), list(range(6)), [0, 1]]
    assert state.spent() == pytest.approx((10 / 9 + 4 / 3 + 2) / 16)


def test_what_was_spent_is_reckoned_by_steps_where_a_rung_came_later_than_its_share() -> None:
    state = Halving([[0], [1], [2]], rule([0.1]))
    state.results = {(job, 0): Result(float(job), done=20 / 41) for job in range(3)}
    assert state.spent() == pytest.approx(20 / 41)


def test_without_rungs_everything_is_trained_to_its_end() -> None:
    state = Halving([[job] for job in range(3)], rule([]))
    finish(state, [1.0, 2.0, math.inf])
    assert trained(state) == [[0, 1, 2]]
    assert state.spent() == 1


def test_who_goes_on_does_not_depend_on_who_ends_first() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        scores = [chance.choice([math.inf, *(chance.random() for _ in range(9))]) for _ in range(26)]
        inorder, mixed = (Halving([[2 * i, 2 * i + 1] for i in range(13)], rule()) for _ in range(2))
        finish(inorder, scores)
        finish(mixed, scores, chance)
        assert trained(mixed) == trained(inorder)


def test_a_place_that_is_certain_is_taken_at_once() -> None:
    state = Halving([[job] for job in range(6)], rule())
    for job in range(1, 6):  # two places; one job is open
        state.results[job, 0] = Result(float(job))
    assert state.due() == [(1, 1), (0, 0)]
    state.results[0, 0] = Result(9.0)
    assert state.contenders(1) == [1, 2]


def test_seeds_stand_or_fall_together_and_a_failed_one_pulls_its_configuration_down() -> None:
    state = Halving([[0, 1], [2, 3], [4, 5], [6, 7]], rule([0.5], eta=3))
    finish(state, [0.0, 5.0, 2.0, 2.0, 0.0, math.inf, 1.0, 1.0])
    assert trained(state) == [[0, 1, 2, 3], [1, 3]]
    everything_failed = Halving([[0], [1]], rule([0.5]))
    finish(everything_failed, [math.inf, math.inf])
    assert trained(everything_failed)[1] == []


def test_more_places_promote_what_was_stopped_and_fewer_take_nothing_back() -> None:
    state = Halving([[job] for job in range(9)], rule())
    finish(state, [float(job) for job in range(9)])
    assert trained(state) == [list(range(9)), [0, 1, 2], [0, 1]]
    wider = Halving(state.configurations, rule(eta=2), dict(state.results))
    assert wider.due() == [(3, 1), (4, 1)]
    narrower = Halving(state.configurations, rule(eta=9), dict(state.results))
    assert narrower.due() == []


def test_a_job_that_finished_without_rungs_takes_no_place() -> None:
    state = Halving([[job] for job in range(6)], rule(), {(5, 2): Result(0.1)})
    finish(state, [float(job) for job in range(6)])
    assert trained(state) == [list(range(6)), [0, 1, 5], [0, 1, 5]]


def documents(score: float, noise: float, seed: int, count: int = 100) -> Result:
    chance = np.random.default_rng(seed)
    bits = (score + noise * chance.standard_normal(count)) * 10
    return Result(float(bits.sum() / (10 * count)), bits.tolist(), [10] * count)


def test_what_overlaps_the_last_place_may_stay_as_far_as_the_budget_goes() -> None:
    state = Halving([[job] for job in range(9)], rule(confidence=0.95))
    for job in range(9):
        state.results[job, 0] = documents(1.0 + 1e-4 * job, noise=0.1, seed=job)
    ranked = sorted(range(9), key=lambda job: state.results[job, 0].value)
    plain = 9 / 9 + 3 * (1 / 3 - 1 / 9)
    stay = int(0.25 * plain / (1 / 3 - 1 / 9))
    assert state.contenders(1) == sorted(ranked[: 3 + stay])
    clear = Halving([[job] for job in range(9)], rule(confidence=0.95))
    for job in range(9):
        clear.results[job, 0] = documents(1.0 + 0.5 * job, noise=0.1, seed=job)
    assert clear.contenders(1) == [0, 1, 2]


def test_the_interval_of_a_difference_is_paired_and_knows_seeds() -> None:
    state = Halving([[0], [1]], rule([0.5], confidence=0.95))
    hard = np.random.default_rng(0).random(200) * 50  # documents differ much, the two runs little
    for job, shift in enumerate((0.0, 0.1)):
        bits = hard + shift
        state.results[job, 0] = Result(float(bits.sum() / 2000), bits.tolist(), [10] * 200)
    assert not state.overlap(0, 1, 0)
    seeds = Halving([[0, 1], [2, 3]], rule([0.5], confidence=0.95))
    for job, value in enumerate((1.0, 1.2, 1.1, 1.3)):
        seeds.results[job, 0] = Result(value)
    assert seeds.standard_error(0, 1, 0) == pytest.approx(math.sqrt(0.02))
    assert seeds.overlap(0, 1, 0)


@pytest.mark.parametrize(
    "wrong", [{"rungs": [0.5, 0.2]}, {"rungs": [0.0]}, {"rungs": [1.0]}, {"eta": 1.0}, {"confidence": 1.0}]
)
def test_a_wrong_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"hydra.sweeper.{next(iter(wrong))}"):
        Rule(**dict[str, Any]({"rungs": [0.5], "eta": 3.0, "confidence": None, "extra": 0.25} | wrong))


def parsed(*words: str) -> Any:
    return OverridesParser.create().parse_overrides(list(words))


def test_points_fill_the_space_and_more_of_them_keep_the_earlier() -> None:
    words = parsed("lr=tag(log,interval(1e-3,3e-2))", "dims=64,128", "n=int(interval(1,4))", "epochs=2", "seed=1,2")
    jobs = points(words, 32, seed=1)
    assert len(jobs) == 64
    assert len(configurations(jobs)) == 32
    assert points(words, 8, seed=1) == jobs[:16]
    assert points(words, 8, seed=2) != jobs[:16]
    values = [dict(word.split("=") for word in job) for job in jobs]
    rates = sorted(float(job["lr"]) for job in values)
    assert 1e-3 <= rates[0] < 1.5e-3
    assert 2e-2 < rates[-1] <= 3e-2
    assert abs(sum(rate < math.sqrt(3e-5) for rate in rates) - 32) <= 4
    assert {job["n"] for job in values} == {"1", "2", "3", "4"}
    assert {job["epochs"] for job in values} == {"2"}


def test_a_grid_is_every_combination_or_points_of_it() -> None:
    words = parsed("dims=64,128,256", "heads=2,4", "seed=1,2")
    assert len(points(words, None, 1)) == 12
    assert len(points(words, 99, 1)) == 12
    some = points(words, 4, 1)
    assert len(some) == 8
    assert len({tuple(job) for job in some}) == 8
    with pytest.raises(ConfigError, match="how many points"):
        points(parsed("lr=interval(0,1)"), None, 1)
    with pytest.raises(ConfigError, match="above 0"):
        points(parsed("lr=tag(log,interval(0,1))"), 3, 1)
