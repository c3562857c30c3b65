"""A model laid out for writing has the same weights, names and answers."""

import gc
import weakref

import pytest
import torch
from tiny_model import SOME, build, ids

from nanolm.hardware import cpu_has
from nanolm.model.fast import packed


@pytest.mark.parametrize("pieces", SOME[:4], ids=str)
def test_every_number_of_rows_gets_the_same_answers(pieces: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 0)
    plain, ready = build(pieces).float(), build(pieces).float()
    packed.lay_out(ready)
    assert any(isinstance(module, packed.Packed) for module in ready.modules())
    assert {name: (x.shape, x.dtype) for name, x in ready.state_dict().items()} == {
        name: (x.shape, x.dtype) for name, x in plain.state_dict().items()
    }
    with torch.inference_mode():
        for rows in (1, 2, 3, 10, 40, 129):
            text = ids(rows, 4)
            for cut in (text, text[:, :1]):
                torch.testing.assert_close(ready.logits(ready(cut)), plain.logits(plain(cut)), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not packed.HALVES, reason="products of this kind are for x86")
@pytest.mark.parametrize("native", sorted({False, cpu_has("bf16")}))  # elsewhere oneDNN may refuse bf16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("calls", [0, 99])
def test_half_weights_are_multiplied_as_they_are(
    native: bool, bias: bool, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "EARLY", calls)
    monkeypatch.setattr(packed, "cpu_has", lambda kind: native)
    torch.manual_seed(0)
    linear = torch.nn.Linear(200, 96, bias)
    linear.weight.data[0] *= 1e-3
    half, x = packed.Half(linear), torch.randn(20, 200) * torch.logspace(-3, 3, 20)[:, None]
    rounded = linear.weight.bfloat16().double(), None if linear.bias is None else linear.bias.bfloat16().double()
    exact = torch.nn.functional.linear(x.double(), *rounded)
    with torch.inference_mode():
        for rows in (1, 2, packed.MANY - 1, packed.MANY, 20):
            error = (half(x[:rows].view(1, rows, 200))[0] - exact[:rows]).norm(dim=1) / exact[:rows].norm(dim=1)
            assert error.max() < (1e-5 if rows < packed.MANY or not native else 1e-2)
    assert (half._packed is None) == bool(calls)
    embedding = packed.HalfEmbedding(torch.nn.Embedding(7, 16))
    assert torch.equal(embedding(torch.arange(7)), embedding.weight.float())


@pytest.mark.skipif(not packed.HALVES, reason="products of this kind are for x86")
def test_half_weights_of_a_model_are_packed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 0)
    monkeypatch.setattr(packed, "EARLY", 1)
    model = build({}).float()
    packed.lay_out(model, half=True)
    halves = [module for module in model.modules() if isinstance(module, packed.Half)]
    with torch.inference_mode():
        for _ in range(2):
            assert all(half._packed is None for half in halves)
            halves[0].product(torch.ones(1, halves[0].weight.shape[1]))
    assert len(halves) > 3
    assert all(half._packed is not None and half._early is None for half in halves)


@pytest.mark.skipif(not packed.HALVES, reason="products of this kind are for x86")
def test_weights_go_with_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 0)
    model = build({}).float()
    packed.lay_out(model, half=True)
    weight = weakref.ref(model.blocks[0].mlp.up.weight)
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()


def test_a_prompt_is_read_without_a_second_copy_of_the_weights() -> None:
    module = packed.Packed(torch.nn.Linear(512, 512))
    with torch.inference_mode():
        prompt = module(torch.ones(1, 5, 512))
        assert module._packed is None
        torch.testing.assert_close(module(torch.ones(5, 1, 512)).view(1, 5, 512), prompt)
    assert module._packed is not None


def test_gradients_still_flow() -> None:
    module = packed.Packed(torch.nn.Linear(512, 512))
    module(torch.randn(5, 512)).sum().backward()
    assert module.weight.grad is not None


def test_small_matrices_are_left_to_torch() -> None:
    model = build({}).float()
    packed.lay_out(model)
    assert not any(isinstance(module, packed.Packed) for module in model.modules())
