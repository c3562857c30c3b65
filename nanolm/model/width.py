"""The learning rate that is right for one size is right for all: initialisation, and its share per kind of parameter.

In: a model's parameters and its config. Out: initial values, and the parameters by kind, each with the share of the
learning rate that Adam wants. Knows a model by the names of its parameters alone. Nothing is multiplied in the forward
pass, so an exported model needs nothing of this.

Maximal-update parametrisation (Yang et al. 2022, https://arxiv.org/abs/2203.03466; as spectral norms in
https://arxiv.org/abs/2310.17813; Large et al. 2024, https://arxiv.org/abs/2405.14813), at a base width of 256:
- matrix (dims to dims): entries of size 1 / sqrt(fan_in); Adam moves each entry by lr, and as a move of rank one adds
  up over fan_in inputs, its lr goes with 1 / dims.
- embedding, vector (gains and biases): entries of a size and an lr that don't depend on dims.
- output (untied): entries and lr go with 1 / dims.
- ngrams, spelling: rows that begin at 0, with the share of lr that did best (docs/results.md): the sum of an n-gram's
  rows wants less than an embedding, the mean of a word's pieces more.
- ends (of pre-norm blocks: what attention and MLP add, of more than 4 blocks): they learn at 4 / nblocks of what other
  matrices do, and begin smaller by its root, so that a step moves the stream by as much however many add to it (depth
  as in https://arxiv.org/abs/2505.01618, without a factor in the forward pass).
- gain: a tied embedding must be both of the last two. The gain of the norm before it starts at 256 / dims (and learns
  in proportion), which makes the product what an output layer should be.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nanolm.model.config import BASE_DIMS, ModelConfig

BASE_BLOCKS = 4
TIED_STD = 0.02
NGRAMS_LR, SPELLING_LR = 0.3, 6.0

ENDS = ("attention.output.weight", "mlp.down.weight")
NAMES = {
    "embedding.weight": "embedding",
    "embedding.spelling": "spelling",
    "ngrams.tables": "ngrams",
    "output.weight": "output",
}


@dataclass
class Kind:
    """Parameters that are initialised and learn alike; the names are those above."""

    name: str
    parameters: list[Tensor]
    lr_scale: float  # share of the base learning rate under Adam
    depth_scale: float = 1.0  # what of it is due to the depth, and for every optimizer
    spelt: bool = False  # an embedding whose tokens have pieces too


def embedding_std(tied: bool) -> float:
    """The size of the embedding's entries; sinusoidal positions are scaled to it."""
    return TIED_STD if tied else 1.0


def last_gain(config: ModelConfig) -> str:
    """The name of the gain whose output the output layer reads."""
    return "norm.weight" if config.norm_position == "pre" else f"blocks.{config.nblocks - 1}.mlp_norm.weight"


def depth_scale(config: ModelConfig) -> float:
    """The share of the learning rate of what blocks add."""
    return min(1.0, BASE_BLOCKS / config.nblocks) if config.norm_position == "pre" else 1.0


def kind_of(name: str, parameter: Tensor, config: ModelConfig) -> str:
    """The kind of one parameter."""
    if name in NAMES:
        return NAMES[name]
    if config.tied and name == last_gain(config):
        return "gain"
    if parameter.ndim != 2:
        return "vector"
    return "end" if name.endswith(ENDS) else "matrix"


def kinds(model: nn.Module, config: ModelConfig, depth: bool = True) -> list[Kind]:
    """All parameters of the model, each in exactly one kind; depth: ends are a kind of their own, and no matrices."""
    narrow, shallow = BASE_DIMS / config.dims, depth_scale(config)
    scales = {"matrix": narrow, "output": narrow, "embedding": 1.0, "vector": 1.0, "gain": narrow}
    scales |= {"ngrams": NGRAMS_LR, "spelling": SPELLING_LR, "end": narrow * shallow}  # a checkpoint knows the order
    found = {name: Kind(name, [], scale) for name, scale in scales.items()}
    found["end"].depth_scale = shallow
    for name, parameter in model.named_parameters():
        kind = kind_of(name, parameter, config)
        found["matrix" if kind == "end" and not depth else kind].parameters.append(parameter)
    found["embedding"].spelt = bool(found["spelling"].parameters)
    return list(found.values())


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig) -> None:
    """Draws every parameter anew from torch's generator; what pre-norm blocks add is scaled down with their number."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            if f"{name}.weight".endswith(ENDS) and config.norm_position == "pre":
                bound *= math.sqrt(depth_scale(config) / (2 * config.nblocks))
            if name == "output":
                bound *= math.sqrt(BASE_DIMS / config.dims)
            module.weight.uniform_(-bound, bound)
            if module.bias is not None:
                module.bias.zero_()
    model.get_parameter("embedding.weight").normal_(std=embedding_std(config.tied))
    if config.tied:
        model.get_parameter(last_gain(config)).fill_(BASE_DIMS / config.dims)
