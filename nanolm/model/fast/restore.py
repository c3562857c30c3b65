"""From stored weights to the model that they are of, be they as trained or rounded to int8.

In: a config and named tensors, perhaps a stranger's. Out: a Transformer, or RunError. Reads no files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nanolm.errors import RunError
from nanolm.model.config import ModelConfig
from nanolm.model.fast.int8 import quantize
from nanolm.model.positions import make_positions
from nanolm.model.spelling import spelt_means
from nanolm.model.transformer import Transformer


def is_rounded(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some of the weights are int8."""
    return any(tensor.dtype == torch.int8 for tensor in tensors.values())


def unfilled(config: ModelConfig, vocab_size: int, rounded: bool) -> Transformer:
    """A model without memory for its weights."""
    with torch.device("meta"):
        model = Transformer(config, vocab_size, config.context or 0)
        if rounded:
            quantize(model)
    return model


def restored(path: Path, config: ModelConfig, vocabulary: Sequence[str], tensors: dict[str, Tensor]) -> Transformer:
    """The model of these weights, in eval mode, its embedding folded. Shapes are compared before anything is allocated:
    a config may lie. No first weights are drawn."""
    rounded = is_rounded(tensors)
    spelt = "embedding.spelling" in tensors and config.spelling > 0 and not rounded
    model = unfilled(config, len(vocabulary), rounded) if config.context and config.nblocks <= len(tensors) else None
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()} if model else {}
    if spelt:
        shapes["embedding.spelling"] = torch.Size((config.spelling, config.dims))
    if model is None or shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise RunError(
            f"{path}: its weights are not those of the config beside it; copy the folder again, or train it again"
        )
    own = {name: tensors[name].to(empty.dtype, copy=True) for name, empty in model.state_dict().items()}
    if spelt:
        own["embedding.weight"] += spelt_means(tensors["embedding.spelling"].float(), vocabulary)
    model.load_state_dict(own, assign=True)
    model.positions = make_positions(config, model.context)
    return model.eval()
