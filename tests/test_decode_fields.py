"""The fields of decoding: filters leave their input alone, a wrong value is one line."""

import itertools
import math
from typing import Any

import pytest
import torch
from toy_model import PROMPTS, Toy, run

from nanolm.config import build, options
from nanolm.decode import filters
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.errors import ConfigError
from nanolm.tokenizer.base import BOS, EOS


def test_no_repeat_ngram_holds_over_prompt_and_continuation() -> None:
    for config in (Greedy(no_repeat_ngram_size=2), Beam(no_repeat_ngram_size=2, num_beams=3)):
        for prompt, found in zip(PROMPTS, run(config, Toy(eos=-9.0), PROMPTS, context=24), strict=True):
            ids = [*prompt, *found[0].ids]
            known = set(itertools.pairwise(prompt))
            new = list(itertools.pairwise(ids))[max(0, len(prompt) - 1) :]
            assert len(set(new)) == len(new)
            assert not known & set(new)


@pytest.mark.parametrize("config", [Greedy(), Sample(), Beam(num_beams=2)], ids=str)
def test_where_every_token_is_forbidden_the_sequence_ends(config: DecodeConfig) -> None:
    config.no_repeat_ngram_size, config.min_new_tokens = 1, 11
    found = run(config, Toy(vocabulary=7), [[BOS]])[0][0]
    assert sorted(found.ids) == [EOS, 4, 5, 6]


def test_a_full_context_has_room_for_one_token() -> None:
    assert len(run(Greedy(), Toy(eos=-9.0), [[BOS] + [4] * 11])[0][0].ids) == 1
    with pytest.raises(ValueError, match="1 to 12 ids"):
        run(Greedy(), Toy(), [[BOS] + [4] * 12])
    with pytest.raises(ValueError, match="1 to 12 ids"):
        run(Greedy(), Toy(), [[]])


def test_filters_leave_their_input_alone() -> None:
    scores, history = torch.randn(3, 8), torch.randint(0, 8, (3, 5))
    before = scores.clone()
    filters.repetition_penalty(scores, history, 2.0)
    filters.no_repeat_ngram(scores, history, 1)
    filters.suppress(scores, range(3))
    filters.unless_stuck(scores, scores, 2)
    filters.top_k(scores, 2)
    for one in (filters.temperature, filters.top_p, filters.min_p):
        one(scores, 0.5)
    assert scores.equal(before)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("max_new_tokens", {"max_new_tokens": 0}),
    ("min_new_tokens", {"min_new_tokens": -1}),
    ("min_new_tokens", {"min_new_tokens": 9, "max_new_tokens": 8}),
    ("repetition_penalty", {"repetition_penalty": 0.0}),
    ("no_repeat_ngram_size", {"no_repeat_ngram_size": -1}),
    ("num_return_sequences", {"num_return_sequences": 0}),
    ("num_return_sequences", {"name": "greedy", "num_return_sequences": 2}),
    ("num_return_sequences", {"temperature": 0, "num_return_sequences": 2}),
    ("num_return_sequences", {"name": "beam", "num_return_sequences": 6}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": math.nan}),
    ("top_k", {"top_k": -1}),
    ("top_k", {"top_k": 1.5}),
    ("top_p", {"top_p": 1.1}),
    ("min_p", {"min_p": -0.1}),
    ("num_beams", {"name": "beam", "num_beams": 0}),
    ("length_penalty", {"name": "beam", "length_penalty": math.inf}),
    ("early_stopping", {"name": "beam", "early_stopping": "maybe"}),
    ("num_beams", {"num_beams": 3}),
]


@pytest.mark.parametrize(("key", "values"), BAD)
def test_a_wrong_field_gives_one_line_that_names_it(key: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^decode\.{key}") as error:
        build("decode", {"name": "sample"} | values)
    assert "\n" not in str(error.value)


def test_the_group_has_its_three_options() -> None:
    assert set(options("decode")) == {"greedy", "beam", "sample"}
