"""From stored weights to the model that they are of, be they as trained or rounded to int8.

In: a config and named tensors, perhaps a stranger's. Out: a Transformer, or RunError. Reads no files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nanolm.errors import RunError
from nanolm.model.config import ModelConfig
from nanolm.model.fast.int8 import quantize
from nanolm.model.transformer import Transformer


def is_rounded(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether some of the weights are int8."""
    return any(tensor.dtype == torch.int8 for tensor in tensors.values())


def restored(path: Path, config: ModelConfig, vocabulary: int, tensors: dict[str, torch.Tensor]) -> Transformer:
    """The model of these weights, in eval mode. Shapes are compared before anything is allocated: a config may lie."""

    def made() -> Transformer:
        model = Transformer(config, vocabulary, config.context or 0)
        if is_rounded(tensors):
            quantize(model)
        return model

    wanted: dict[str, Any] = {}
    if config.context and config.nblocks <= len(tensors):
        with torch.device("meta"):
            wanted = made().state_dict()
    if not wanted or {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in tensors.items()}:
        raise RunError(
            f"{path}: its weights are not those of the config beside it; copy the folder again, or train it again"
        )
    model = made()
    model.load_state_dict(tensors)
    return model.eval()
