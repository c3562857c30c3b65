"""Quick steps: equal to the bit to the model's own, whatever the arrangement, the precision and the rows."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_model import SOME, build, ids
from torch import Tensor

from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.sample import Sample
from nanolm.errors import ConfigError
from nanolm.model.fast import packed
from nanolm.model.fast.int8 import FBGEMM, quantize
from nanolm.model.fast.recorded import ready_to_write
from nanolm.model.fast.steps import Steps
from nanolm.model.transformer import Transformer


@pytest.fixture(autouse=True)
def small_matrices_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 1)
    monkeypatch.setattr(packed, "EARLY", 0)


def ready(pieces: dict[str, Any], kind: str, dims: int = 16, quick: bool = True) -> Transformer:
    model = build(pieces, dims).float()
    if kind.startswith("int8"):
        quantize(model)
    ready_to_write(model, recorded=False, half=kind == "bf16")
    assert isinstance(model.quick_step, Steps)
    if not quick:
        model.quick_step = None
    return model


def steps(model: Transformer, rows: int, starts: Tensor | None) -> Tensor:
    """The logits of a first step of 4 tokens and of 8 single ones; half-way two rows change places."""
    text, cache, found = ids(rows, 12), model.new_cache(rows, starts), []
    with torch.inference_mode():
        found.append(model.step(text[:, :4], cache))
        for at in range(4, 12):
            found.append(model.step(text[:, at : at + 1], cache))
            if at == 7 and rows > 1:
                cache.select(torch.tensor([1, 0, *range(2, rows)]))
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["fp32", "int8", "int8 without fbgemm", "bf16"])
@pytest.mark.parametrize("pieces", SOME)
def test_quick_steps_are_the_same(pieces: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanolm.model.fast.int8.FBGEMM", FBGEMM and kind != "int8 without fbgemm")
    dims = 96 if pieces == {} else 16
    model, plain = ready(pieces, kind, dims), ready(pieces, kind, dims, quick=False)
    assert list(model.state_dict()) == list(plain.state_dict())
    for rows, padded in ((1, False), (3, True), (2, False), (40, True), (5, False)):
        starts = torch.arange(rows) % 4 if padded else None
        assert torch.equal(steps(model, rows, starts), steps(plain, rows, starts))


@pytest.mark.parametrize("decode", [Sample(max_new_tokens=10, num_return_sequences=3), Beam(num_beams=4)])
def test_texts_are_the_same(decode: DecodeConfig) -> None:
    model, plain, prompts = ready({}, "fp32"), ready({}, "fp32", quick=False), [[2, 5], [2], [2, 7, 8]]
    with torch.inference_mode():
        expected = decode.decode(plain, prompts, model.context, [[1], [2], [3]])
        assert decode.decode(model, prompts, model.context, [[1], [2], [3]]) == expected


def test_threads_do_not_share_their_room() -> None:
    model, plain = ready({}, "fp32", 96), ready({}, "fp32", 96, quick=False)
    rows = [1, 2, 1, 3] * 8
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: steps(model, each, None), rows))
    assert all(torch.equal(one, steps(plain, each, None)) for one, each in zip(found, rows, strict=True))


def test_any_mode_may_step() -> None:
    model = ready({}, "fp32")
    cache = model.new_cache(1)
    with torch.inference_mode():
        model.step(ids(1, 1), cache)
    assert not model.step(ids(1, 1), model.new_cache(1)).requires_grad


def test_logits_are_not_written_over() -> None:
    model = ready({"tied": False}, "fp32")
    cache = model.new_cache(1)
    first = model.step(ids(1, 1), cache)
    kept = first.clone()
    model.step(ids(1, 1, seed=2), cache)
    assert torch.equal(first, kept)


def test_a_model_in_bf16_takes_its_own_steps() -> None:
    model = build({}).bfloat16()
    ready_to_write(model)
    assert model.quick_step is None


def test_attentions_are_those_of_plain_steps() -> None:
    model, plain = ready({}, "fp32"), ready({}, "fp32", quick=False)
    found: list[list[Tensor]] = []
    for each in (model, plain):
        cache = each.new_cache(1)
        each.step(ids(1, 3), cache)
        each.step(ids(1, 1), cache)
        found.append([])
        with torch.inference_mode():
            each(ids(1, 1), cache, found[-1])
    assert len(found[0]) == 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_full_context_says_so() -> None:
    model = ready({}, "fp32")
    cache = model.new_cache(1)
    for _ in range(model.context):
        model.step(ids(1, 1), cache)
    with pytest.raises(ConfigError, match=rf"^model\.context={model.context}: "):
        model.step(ids(1, 1), cache)
