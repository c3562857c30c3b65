"""Quick and recorded steps: equal to the bit to the model's own, whatever the arrangement, precision and rows."""

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
from nanolm.model.fast import packed, recorded
from nanolm.model.fast.int8 import FBGEMM, Int8Linear, quantize
from nanolm.model.fast.recorded import RecordedSteps, ready_to_write
from nanolm.model.fast.steps import Steps
from nanolm.model.transformer import Transformer


@pytest.fixture(autouse=True)
def small_matrices_and_few_steps_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 1)
    monkeypatch.setattr(packed, "EARLY", 0)
    monkeypatch.setattr(recorded, "WAIT", 0)
    monkeypatch.setattr(recorded, "AFTER", 4)  # so that recordings are seen before and after they are optimized


def ready(pieces: dict[str, Any], kind: str, dims: int = 16, way: str = "recorded") -> Transformer:
    """A model that writes; way: recorded, quick, or own, which are its plain steps."""
    model = build(pieces, dims).float()
    if kind.startswith("int8"):
        quantize(model)
    ready_to_write(model, recorded=way == "recorded", half=kind == "bf16")
    if way == "own":
        model.quick_step = None
    return model


def recordings(model: Transformer) -> list[bool]:
    """Whether its steps are recorded, of all kinds so far."""
    steps = model.quick_step.steps.values() if isinstance(model.quick_step, RecordedSteps) else []
    return [isinstance(step, torch.jit.ScriptModule) for step in steps]


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
@pytest.mark.parametrize("pieces", [*SOME, {"mlp": "relu", "hidden": 1}])
def test_steps_are_the_same(pieces: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanolm.model.fast.int8.FBGEMM", FBGEMM and kind != "int8 without fbgemm")
    dims = 96 if pieces == {} else 16
    quick, recorded, own = (ready(pieces, kind, dims, way) for way in ("quick", "recorded", "own"))
    assert list(quick.state_dict()) == list(recorded.state_dict()) == list(own.state_dict())
    assert isinstance(quick.quick_step, Steps)
    kinds = set()
    for rows, padded in ((1, False), (3, True), (2, False), (40, True), (5, False)):
        starts = torch.arange(rows) % 4 if padded else None
        kinds.add((packed.row_group(rows), padded))
        expected = steps(own, rows, starts)
        for model in (quick, recorded, recorded):
            assert torch.equal(steps(model, rows, starts), expected)
        assert all(recordings(recorded))
    packs = kind.startswith("int8") or (kind == "bf16" and packed.HALVES)
    assert len(recordings(recorded)) == (len(kinds) if packs else 0)


@pytest.mark.parametrize("can", sorted({False, FBGEMM}))
@pytest.mark.parametrize("tied", [True, False])
def test_int8_weights_that_are_multiplied_are_packed_at_loading(
    tied: bool, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanolm.model.fast.int8.FBGEMM", can)
    model = ready({"tied": tied}, "int8")
    made = {name: one._packed is not None for name, one in model.named_modules() if isinstance(one, Int8Linear)}
    assert made.pop("embedding") == (can and tied)
    assert set(made.values()) == {can}


@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("decode", [Sample(max_new_tokens=10, num_return_sequences=3), Beam(num_beams=4)])
def test_texts_are_the_same(decode: DecodeConfig, kind: str) -> None:
    model, own, prompts = ready({}, kind), ready({}, kind, way="own"), [[2, 5], [2], [2, 7, 8]]
    with torch.inference_mode():
        expected = decode.decode(own, prompts, model.context, [[1], [2], [3]])
        for _ in range(2):
            assert decode.decode(model, prompts, model.context, [[1], [2], [3]]) == expected
    assert all(recordings(model))


def test_the_first_steps_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "WAIT", 5)
    model, plain = ready({}, "int8"), steps(ready({}, "int8", way="own"), 1, None)
    assert torch.equal(steps(model, 1, None)[:6], plain[:6])
    fresh = ready({}, "int8")
    cache = fresh.new_cache(1)
    for _ in range(6):
        assert recordings(fresh) == []
        fresh.step(ids(1, 1), cache)
    assert recordings(fresh) == [True]
    assert recordings(model) == [True]


def test_threads_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made, trace = ready({}, "int8"), list[int](), torch.jit.trace
    plain = steps(ready({}, "int8", way="own"), 1, None)

    def counted(*how: Any, **more: Any) -> Any:
        made.append(1)
        time.sleep(0.2)  # so that the others come to the door
        return trace(*how, **more)

    monkeypatch.setattr(torch.jit, "trace", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: steps(model, 1, None), range(4)))
    assert len(made) == 2  # a block, and the step over it
    assert all(torch.equal(one, plain) for one in found)


def test_a_recording_that_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ready({}, "int8")
    plain = steps(ready({}, "int8", way="own"), 1, None)
    monkeypatch.setattr(recorded, "recording", lambda model, kind, given: lambda *given: torch.zeros(1))
    assert torch.equal(steps(model, 1, None), plain)
    assert recordings(model) == [False]
    assert isinstance(model.quick_step, RecordedSteps)
    monkeypatch.setattr(model.quick_step, "quick", lambda *given: "quick")  # which goes on from there
    assert model.step(ids(1, 1), model.new_cache(1)) == "quick"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "steps can't be recorded, so writing takes longer (they come out differently); recorded=false"
    )


def test_a_torch_that_records_no_more(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = ready({}, "int8")
    plain = steps(ready({}, "int8", way="own"), 1, None)
    monkeypatch.delattr(torch.jit, "trace")
    assert torch.equal(steps(model, 1, None), plain)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("steps can't be recorded, so writing takes longer (")
    assert "trace" in line


def test_threads_do_not_share_their_room() -> None:
    model, plain = ready({}, "fp32", 96), ready({}, "fp32", 96, way="own")
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
    model, plain = ready({}, "fp32"), ready({}, "fp32", way="own")
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


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_full_context_says_so(kind: str) -> None:
    model = ready({}, kind)
    cache = model.new_cache(1)
    for _ in range(model.context):
        model.step(ids(1, 1), cache)
    with pytest.raises(ConfigError, match=rf"^model\.context={model.context}: "):
        model.step(ids(1, 1), cache)
