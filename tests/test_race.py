"""The race's figures: each character once, the same functions for both runners, and a plain loop that learns."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    return importlib.import_module("race")


class Lengths(nn.Module):
    """Not a model: each token costs as many nats as the tokens that it sees."""

    def nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        return torch.arange(1.0, ids.shape[1] + 1).expand(len(ids), -1)


def test_every_character_is_scored_once_with_the_context_that_is_said(race: Any) -> None:
    ids = torch.arange(100)
    side_by_side = [1 + place % 8 for place in range(99)]
    assert race.whole(Lengths(), ids, 8, 8) == pytest.approx(sum(side_by_side) / 99)
    overlapping = [1, 2, 3, 4, *[5 + place % 4 for place in range(95)]]
    assert race.whole(Lengths(), ids, 8, 4) == pytest.approx(sum(overlapping) / 99)
    assert race.estimate(Lengths(), ids, 64, 100) == pytest.approx(sum(range(1, 65)) / 64)


def test_the_plain_loop_learns_and_ends_at_a_tenth_of_its_rate(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = importlib.import_module("plain_gpt")
    assert plain.learning_rate(plain.WARMUP) == plain.HIGH
    assert plain.learning_rate(plain.STEPS) == pytest.approx(plain.LOW)
    monkeypatch.setattr(plain, "EVAL_BATCHES", 1)
    text = "the old map of the old king " * 100
    ids, known = plain.encode(text)
    assert sum(weight.numel() for weight in plain.PlainGPT(65).parameters()) == 804_096
    torch.manual_seed(1337)
    before = race.estimate(plain.PlainGPT(len(known)), ids, plain.BLOCK, 100)
    assert race.estimate(plain.train(text, 12), ids, plain.BLOCK, 100) < before - 0.1
