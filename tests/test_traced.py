"""Recorded steps: equal to the bit to those that aren't, whatever the arrangement, the precision and the rows."""

import time
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
from nanolm.model.fast import packed, traced
from nanolm.model.fast.int8 import FBGEMM, quantize
from nanolm.model.fast.traced import Traced
from nanolm.model.transformer import Transformer

AFTER = 2


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "AFTER", AFTER)
    monkeypatch.setattr(packed, "LARGE", 1)


def ready(pieces: dict[str, Any], kind: str, dims: int = 16) -> Transformer:
    model = build(pieces, dims).float()
    if kind.startswith("int8"):
        quantize(model)
    if kind == "bf16":
        model = model.bfloat16()
    packed.lay_out(model)
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
def test_recorded_steps_are_the_same(pieces: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanolm.model.fast.int8.FBGEMM", FBGEMM and kind != "int8 without fbgemm")
    model = ready(pieces, kind, 96 if pieces == {} else 16)
    for rows, padded in ((1, False), (3, True), (2, False), (40, True), (5, False)):
        starts = torch.arange(rows) % 4 if padded else None
        model.traced = None
        plain = steps(model, rows, starts)
        model.traced = Traced()
        assert torch.equal(steps(model, rows, starts), plain)
        [recorded] = model.traced.traces.values()
        assert isinstance(recorded, torch.jit.ScriptModule)
        assert torch.equal(steps(model, rows, starts), plain)


@pytest.mark.parametrize("decode", [Sample(max_new_tokens=10, num_return_sequences=3), Beam(num_beams=4)])
def test_texts_are_the_same(decode: DecodeConfig) -> None:
    model, prompts = ready({}, "fp32"), [[2, 5], [2], [2, 7, 8]]
    with torch.inference_mode():
        plain = decode.decode(model, prompts, model.context, [[1], [2], [3]])
        model.traced = Traced()
        for _ in range(2):
            assert decode.decode(model, prompts, model.context, [[1], [2], [3]]) == plain
    assert all(isinstance(trace, torch.jit.ScriptModule) for trace in model.traced.traces.values())
    assert len(model.traced.traces) >= 1


def test_threads_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made, trace = ready({}, "fp32"), list[int](), torch.jit.trace
    plain = steps(model, 1, None)
    model.traced = Traced()

    def counted(*how: Any, **more: Any) -> Any:
        made.append(1)
        time.sleep(0.2)  # so that the others come to the door
        return trace(*how, **more)

    monkeypatch.setattr(torch.jit, "trace", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: steps(model, 1, None), range(4)))
    assert len(made) == 1
    assert all(torch.equal(one, plain) for one in found)


def test_a_recording_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready({}, "fp32")
    plain = steps(model, 1, None)
    monkeypatch.setattr(torch.jit, "trace", lambda step, given, **how: lambda *given: step(*given) + 1e-6)
    model.traced = Traced()
    assert torch.equal(steps(model, 1, None), plain)
    assert model.traced.traces == {(False, True): None}


def test_a_full_context_says_so() -> None:
    model = ready({}, "fp32")
    model.traced = Traced()
    cache = model.new_cache(1)
    for _ in range(model.context):
        model.step(ids(1, 1), cache)
    with pytest.raises(ConfigError, match=f"^model.context={model.context}: "):
        model.step(ids(1, 1), cache)


def test_a_torch_that_records_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*how: Any, **more: Any) -> None:
        raise RuntimeError("torch.jit has been removed")

    model = ready({}, "fp32")
    plain = steps(model, 1, None)
    monkeypatch.setattr(torch.jit, "trace", gone)
    model.traced = Traced()
    assert torch.equal(steps(model, 1, None), plain)
