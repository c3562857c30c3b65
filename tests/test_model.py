"""The model: what every arrangement keeps to, its sizes, and what it refuses."""

from typing import Any

import pytest
import torch
from tiny_model import CONTEXT, MANY, ORIGINAL, SOME, VOCABULARY, build, ids
from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.model.layers import Dropout
from nanolm.model.transformer import Transformer


def check_causal(pieces: dict[str, Any]) -> None:
    model, text, other = build(pieces), ids(2, 12), ids(2, 12, seed=2)
    other[:, :7] = text[:, :7]
    a, b, short = model(text), model(other), model(text[:, :7])
    torch.testing.assert_close(a[:, :7], b[:, :7])
    torch.testing.assert_close(a[:, :7], short)
    assert not torch.allclose(a[:, 7:], b[:, 7:])


def check_padding(pieces: dict[str, Any]) -> None:
    model, text, targets = build(pieces), ids(2, 12), ids(2, 12, seed=2)
    padded, padded_targets = text.clone(), targets.clone()
    padded[1, 8:], padded_targets[1, 8:] = 0, -100
    together = torch.autograd.grad(model.loss(padded, padded_targets), list(model.parameters()))
    apart = model.loss(text[:1], targets[:1]) + model.loss(text[1:, :8], targets[1:, :8])
    torch.testing.assert_close(together, torch.autograd.grad(apart, list(model.parameters())))


def check_gradients(pieces: dict[str, Any]) -> None:
    """Each parameter tensor moved along a random direction: the loss changes as its gradient says.

    Two lengths of way, and the nearer counts: the longer may cross the kink of a ReLU.
    """
    model, text, targets = build(pieces), ids(2, 6), ids(2, 6, seed=2)
    targets[0, 3:] = -100
    model.loss(text, targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        start, way = parameter.detach().clone(), torch.randn_like(parameter)
        slope, gaps = (parameter.grad * way).sum(), []
        for length in (1e-6, 1e-8):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.copy_(start + sign * length * way)
                    ends.append(model.loss(text, targets).item())
            gaps.append(abs((ends[0] - ends[1]) / (2 * length) - slope))
        with torch.no_grad():
            parameter.copy_(start)
        assert min(gaps) < 1e-4 * abs(slope) + 1e-5, f"{name} of {pieces}"


CHECKS = [check_causal, check_padding, check_gradients]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("pieces", SOME, ids=str)
def test_arrangement(pieces: dict[str, Any], check: Any) -> None:
    check(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_every_arrangement(check: Any) -> None:
    for pieces in MANY[::2] if check is check_gradients else MANY:
        check(pieces)


@pytest.mark.parametrize("pieces", SOME, ids=str)
def test_the_open_attention_path_equals_the_fused_one(pieces: dict[str, Any]) -> None:
    model, text, weights = build(pieces), ids(2, 12), list[Tensor]()
    torch.testing.assert_close(model(text, attentions=weights), model(text))
    assert [tuple(weight.shape) for weight in weights] == [(2, 4, 12, 12)] * 2
    for weight in weights:
        torch.testing.assert_close(weight.sum(-1), torch.ones(2, 4, 12, dtype=torch.float64))
        assert weight.triu(1).eq(0).all()


@pytest.mark.parametrize("pieces", [{}, ORIGINAL], ids=["modern", "original"])
def test_bf16_is_near_fp32(pieces: dict[str, Any]) -> None:
    model, text, targets = build(pieces).float(), ids(4, 12), ids(4, 12, seed=2)
    exact = torch.autograd.grad(model.loss(text, targets), list(model.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(text).dtype == torch.bfloat16
        loss = model.loss(text, targets)
    torch.testing.assert_close(loss, model.loss(text, targets), rtol=0.01, atol=0.0)
    rough = torch.autograd.grad(loss, list(model.parameters()))
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        assert (a - b).norm() < 0.1 * a.norm() + 1e-3
    low, high = model.bfloat16().logits(model(text)), model.float().logits(model(text))
    assert (low - high).norm() < 0.03 * high.norm()


def test_nats_are_those_of_the_logits() -> None:
    model, text, targets = build({}), ids(2, 12), ids(2, 12, seed=2)
    targets[1, 8:] = -100
    nats = model.nats(text, targets)
    expected = torch.nn.functional.cross_entropy(model.logits(model(text)).mT, targets, reduction="none")
    torch.testing.assert_close(nats, expected)
    assert nats[1, 8:].eq(0).all()
    torch.testing.assert_close(nats.sum().double(), model.loss(text, targets).detach())


def test_sizes_of_the_presets() -> None:
    def parts(vocabulary: int, **fields: Any) -> dict[str, int]:
        with torch.device("meta"):
            model = Transformer(ModelConfig(**fields), vocabulary, 128)
        summary = model.summary()
        assert sum(summary.values()) == sum(parameter.numel() for parameter in model.parameters())
        return summary

    for fields, millions in (((128, 4, 5), 1), ((256, 4, 6), 5), ((512, 8, 6), 20)):
        summary = parts(3500, **dict(zip(("dims", "heads", "nblocks"), fields, strict=True)))
        assert summary["attention"] + summary["mlp"] == pytest.approx(millions * 1e6, rel=0.07)
        assert summary["output"] == 0
    summary = parts(10681, dims=512, heads=8, nblocks=3, **ORIGINAL)
    assert sum(summary.values()) == pytest.approx(14.1e6, rel=0.005)
    assert (summary["attention"] + summary["mlp"]) / 3 == pytest.approx(1.05e6, rel=0.005)


def test_dropout_drops_its_share_in_training_only() -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(0.2), torch.ones(100, 1001)
    y = dropout(x)
    assert sorted(y.unique().tolist()) == pytest.approx([0, 1.25])
    assert y.mean() == pytest.approx(1, abs=0.01)
    assert (y[:, 1:] * y[:, :-1]).mean() == pytest.approx(1, abs=0.02), "neighbours are independent"
    assert dropout.eval()(x) is x
    model = build({"dropout": 0.5})
    assert model(ids(2, 8)).equal(model(ids(2, 8)))
    assert not model.train()(ids(2, 8)).equal(model(ids(2, 8)))


def test_too_many_tokens_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^model\.context=16: 17 tokens"):
        build({})(ids(1, 17))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dims": 30, "heads": 4}, "model.dims=30: must be a multiple of model.heads=4"),
        ({"heads": 4, "kv_heads": 3}, "model.heads=4: must be a multiple of model.kv_heads=3"),
        ({"dims": 12, "heads": 4}, "model.dims=12: rotary positions need an even"),
        ({"mlp": "single", "hidden": 64}, "model.hidden=64: "),
        ({"nblocks": 0}, "model.nblocks=0: must be at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0: "),
        ({"context": 1}, "model.context=1: "),
        ({"norm": "batch"}, "model.norm=batch: must be one of rms, layer"),
    ],
)
def test_a_wrong_shape_is_one_line_that_names_the_key(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        ModelConfig(**fields)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def kept_bytes(nblocks: int, dims: int) -> int:
    """What a forward pass of 64 tokens keeps for the way back, without the parameters."""
    model = Transformer(ModelConfig(dims=dims, heads=4, nblocks=nblocks, dropout=0.1), VOCABULARY, CONTEXT)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(ids(4, 16), ids(4, 16, seed=2)).backward()
    return sum(size for place, size in kept.items() if place not in own)


def test_a_block_keeps_little_for_the_way_back() -> None:
    """In vectors of `dims` per token: 5.5 of the MLP's first product, 2.75 of its second, 12 or so of all others."""
    block = (kept_bytes(3, 192) - kept_bytes(1, 192)) / 2
    assert block / (64 * 192 * 4) < 21
