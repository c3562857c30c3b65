"""The learning rate that is right for one width is right for all: initialisation, and its share per kind of parameter.

In: a Transformer. Out: its initial values, and its parameters by kind, each with the share of the learning rate that
Adam wants. Nothing is multiplied in the forward pass, so an exported model needs nothing of this.

Maximal-update parametrisation (Yang et al. 2022, https://arxiv.org/abs/2203.03466; as spectral norms in
https://arxiv.org/abs/2310.17813; Large et al. 2024, https://arxiv.org/abs/2405.14813), at a base width of 256:
- matrix (dims to dims): entries of size 1 / sqrt(fan_in); Adam moves each entry by lr, and as a move of rank one adds
  up over fan_in inputs, its lr goes with 1 / dims.
- embedding, vector (gains and biases): entries of a size and an lr that don't depend on dims.
- output (untied): entries and lr go with 1 / dims.
- gain: a tied embedding must be both of the last two. The gain of the norm before it starts at 256 / dims (and learns
  in proportion), which makes the product what an output layer should be.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nanolm.model.transformer import Transformer

BASE_DIMS = 256
TIED_STD = 0.02


@dataclass
class Kind:
    """Parameters that are initialised and learn alike: `matrix`, `output`, `embedding`, `vector` or `gain`."""

    name: str
    parameters: list[Tensor]
    lr_scale: float  # share of the base learning rate under Adam


def embedding_std(tied: bool) -> float:
    """The size of the embedding's entries; sinusoidal positions are scaled to it."""
    return TIED_STD if tied else 1.0


def kinds(model: "Transformer") -> list[Kind]:
    """All parameters of the model, each in exactly one kind."""
    narrow = BASE_DIMS / model.config.dims
    last: list[Tensor] = [model.last_norm.weight] if model.config.tied else []
    output: list[Tensor] = [] if model.output is None else [model.output.weight]
    apart = {id(parameter) for parameter in [*last, *output, model.embedding.weight]}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    return [
        Kind("matrix", [parameter for parameter in rest if parameter.ndim == 2], narrow),
        Kind("output", output, narrow),
        Kind("embedding", [model.embedding.weight], 1.0),
        Kind("vector", [parameter for parameter in rest if parameter.ndim < 2], 1.0),
        Kind("gain", last, narrow),
    ]


@torch.no_grad()
def initialise(model: "Transformer") -> None:
    """Draws every parameter anew from torch's generator; what pre-norm blocks add is scaled by 1 / sqrt(2 nblocks)."""
    config = model.config
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            if name.endswith(("attention.output", "mlp.down")) and config.norm_position == "pre":
                bound /= math.sqrt(2 * config.nblocks)
            if module is model.output:
                bound *= math.sqrt(BASE_DIMS / config.dims)
            module.weight.uniform_(-bound, bound)
            if module.bias is not None:
                module.bias.zero_()
    model.embedding.weight.normal_(std=embedding_std(config.tied))
    if config.tied:
        model.last_norm.weight.fill_(BASE_DIMS / config.dims)
