"""The chunked cross-entropy against PyTorch's plain one."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nanolm.model.config import ModelConfig
from nanolm.model.loss import ALIGNED, LOGITS, linear_cross_entropy, target_nats
from nanolm.model.transformer import Transformer

ROWS, DIMS, VOCABULARY = 600, 16, 97


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 rows, so that small examples take several."""
    monkeypatch.setitem(LOGITS, "cpu", 1)


def example(dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, DIMS, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCABULARY, DIMS, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (ROWS,))
    targets[torch.rand(ROWS) < 0.3] = -100
    return hidden, weight, torch.randn(VOCABULARY, dtype=dtype, requires_grad=True) if bias else None, targets


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")


@pytest.mark.parametrize("aligned", [1, 64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_plain_loss(
    dtype: torch.dtype, bias: bool, aligned: int, chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALIGNED, "cpu", aligned)  # as on a GPU
    hidden, weight, offset, targets = example(dtype, bias)
    wanted = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    fast, slow = linear_cross_entropy(hidden, weight, offset, targets), plain(hidden, weight, offset, targets)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(torch.autograd.grad(fast / 7, wanted), torch.autograd.grad(slow / 7, wanted))
    nats = target_nats(hidden, lambda x: F.linear(x, weight, offset), targets, VOCABULARY)
    torch.testing.assert_close(nats.sum().to(dtype), slow.detach())
    assert nats[targets == -100].eq(0).all()


def test_bf16_products_stay_near(chunks: None) -> None:
    hidden, weight, bias, targets = example()
    assert bias is not None
    with torch.autocast("cpu", torch.bfloat16):
        fast = linear_cross_entropy(hidden, weight, bias, targets)
    slow = plain(hidden, weight, bias, targets)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, slow, rtol=2e-3, atol=0.0)
    for a, b in zip(*(torch.autograd.grad(loss, (hidden, weight, bias)) for loss in (fast, slow)), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_without_any_target_loss_and_gradient_are_zero() -> None:
    hidden, weight, bias, _ = example()
    loss = linear_cross_entropy(hidden, weight, bias, torch.full((ROWS,), -100))
    assert loss == 0
    assert all(grad.eq(0).all() for grad in torch.autograd.grad(loss, (hidden, weight)))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return out


@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_never_exist_at_once(tied: bool, chunks: None) -> None:
    model = Transformer(ModelConfig(dims=8, heads=2, nblocks=1, hidden=8, tied=tied), vocab_size=500, context=64)
    ids = torch.randint(0, 500, (32, 64))
    with Largest() as largest:
        model.loss(ids, ids).backward()
        model.nats(ids, ids)
    assert largest.size < 32 * 64 * 500 / 8


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_a_model_with_either_output(tied: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(dims=8, heads=2, nblocks=1, tied=tied), vocab_size=50, context=16).double()
    ids, targets = torch.randint(0, 50, (3, 16)), torch.randint(0, 50, (3, 16))
    targets[1, 4:] = -100
    bias = None if model.output is None else model.output.bias
    slow = plain(model(ids).flatten(0, 1), model.output_weight, bias, targets.flatten())
    fast, parameters = model.loss(ids, targets), list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters))
