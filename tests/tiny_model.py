"""Tiny models of every arrangement, for the tests of the model and of its cache."""

import itertools
import random
from typing import Any

import torch
from torch import Tensor

from nanolm.model.config import MLPS, NORM_POSITIONS, NORMS, POSITIONS, ModelConfig
from nanolm.model.transformer import Transformer

VOCABULARY, CONTEXT = 23, 16
CHOICES: dict[str, tuple[Any, ...]] = {
    "norm": NORMS,
    "norm_position": NORM_POSITIONS,
    "positions": POSITIONS,
    "mlp": MLPS,
    "tied": (True, False),
    "qk_norm": (True, False),
    "biases": (False, True),
    "kv_heads": (None, 1),
    "attention_output": (True, False),
    "ngrams": (1, 3),
}
_EVERY = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]  # 5,120
MANY = random.Random(1).sample(_EVERY, 400)  # each pair of choices is among them dozens of times
ORIGINAL: dict[str, Any] = {
    "norm": "layer",
    "norm_position": "post",
    "positions": "sinusoidal",
    "mlp": "single",
    "tied": False,
    "qk_norm": False,
    "biases": True,
    "attention_output": False,
    "dropout": 0.2,
}
ALIBI: dict[str, Any] = {"positions": "alibi", "kv_heads": 2}
SOME = [{}, ORIGINAL, ALIBI, {"positions": "none"}, {"qk_norm": False}, *random.Random(0).sample(_EVERY, 10)]


def build(pieces: dict[str, Any], dims: int = 16, context: int = CONTEXT) -> Transformer:
    """A tiny model in float64 and eval mode, every parameter moved off its initial value."""
    torch.manual_seed(0)
    config = ModelConfig(dims=dims, heads=4, nblocks=2, ngram_rows=50, **pieces)
    model = Transformer(config, VOCABULARY, context).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def ids(*shape: int, seed: int = 1) -> Tensor:
    """Random ids, the same for the same seed."""
    return torch.randint(4, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
