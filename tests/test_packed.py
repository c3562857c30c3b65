"""A model laid out for writing has the same weights, names and answers."""

import pytest
import torch
from tiny_model import SOME, build, ids

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


def test_gradients_still_flow() -> None:
    module = packed.Packed(torch.nn.Linear(512, 512))
    module(torch.randn(5, 512)).sum().backward()
    assert module.weight.grad is not None


def test_small_matrices_are_left_to_torch() -> None:
    model = build({}).float()
    packed.lay_out(model)
    assert not any(isinstance(module, packed.Packed) for module in model.modules())
