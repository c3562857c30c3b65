"""Reading token by token through the cache gives what reading everything at once gives."""

import itertools
from typing import Any

import pytest
import torch
from tiny_model import MANY, SOME, build, ids
from torch import Tensor

from nanolm.model.cache import Cache


def check_steps(pieces: dict[str, Any]) -> None:
    """A prefill of 5, a chunk of 3, then one token at a time."""
    model, text = build(pieces), ids(3, 12)
    full, cache = model.logits(model(text)), model.new_cache(3)
    cuts = [0, 5, 8, 9, 10, 11, 12]
    for start, end in itertools.pairwise(cuts):
        logits = model.step(text[:, start:end], cache)
        torch.testing.assert_close(logits, full[:, end - 1])
        assert logits.argmax(-1).equal(full[:, end - 1].argmax(-1))
    assert cache.length == 12


def check_left_padding(pieces: dict[str, Any]) -> None:
    """Rows of 9, 4 and 1 tokens side by side, then three more each: as each row alone."""
    model, text, starts = build(pieces), ids(3, 12), torch.tensor([0, 5, 8])
    rows = text.clone()
    for row, start in zip(rows, starts.tolist(), strict=True):
        row[:start] = 0
    cache = model.new_cache(3, starts)
    got = [model.step(rows[:, :9], cache), *(model.step(rows[:, end - 1 : end], cache) for end in (10, 11, 12))]
    for index, start in enumerate(starts.tolist()):
        alone = model.logits(model(text[index : index + 1, start:]))[0, 8 - start :]
        torch.testing.assert_close(torch.stack(got, 1)[index], alone)


@pytest.mark.parametrize("check", [check_steps, check_left_padding])
@pytest.mark.parametrize("pieces", SOME, ids=str)
def test_arrangement(pieces: dict[str, Any], check: Any) -> None:
    check(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_steps, check_left_padding])
def test_every_arrangement(check: Any) -> None:
    for pieces in MANY:
        check(pieces)


@pytest.mark.parametrize("starts", [None, torch.tensor([0, 2])])
def test_beams_that_are_reordered_keep_their_own_past(starts: Tensor | None) -> None:
    """Two prompts grow to three beams each, are shuffled often, and shrink: always as read anew."""
    model = build({}, context=32)
    text, random = ids(2, 4), torch.Generator().manual_seed(0)
    cache = model.new_cache(2, starts)
    model.step(text, cache)
    pick = torch.tensor([0, 0, 0, 1, 1, 1])
    for turn in range(20):
        cache.select(pick)
        text = torch.cat([text[pick], torch.randint(4, 20, (len(pick), 1), generator=random)], 1)
        logits = model.step(text[:, -1:], cache)
        fresh = model.step(text, model.new_cache(len(pick), cache.starts))
        torch.testing.assert_close(logits, fresh)
        size = 3 if turn < 15 else 1
        groups = len(pick) // 2
        pick = torch.cat([torch.randint(groups, (size,), generator=random) + group * groups for group in range(2)])


def test_select_copies_only_what_rows_do_not_share() -> None:
    cache = Cache((1, 2, 1, 8, 1), torch.zeros(0))
    for step in range(4):
        cache.columns(1)[0].put(torch.full((2, 1, 1, 1), float(step)), torch.zeros(2, 1, 1, 1))
    cache.select(torch.tensor([1, 1]))
    before = cache.keys.data_ptr()
    cache.keys[:, :, :, 0] = 7  # shared by both rows since the last select: not touched by the next
    cache.select(torch.tensor([1, 0]))
    assert cache.keys.data_ptr() == before
    assert cache.keys[0, :, 0, :4, 0].tolist() == [[7, 1, 2, 3]] * 2


def test_no_padding_means_no_mask() -> None:
    assert build({}).new_cache(2, torch.tensor([0, 0])).starts is None


def test_the_cache_follows_the_model_dtype() -> None:
    model = build({}).bfloat16()
    assert model.new_cache(1).keys.dtype == torch.bfloat16
    assert model.step(ids(1, 3), model.new_cache(1)).dtype == torch.float32
