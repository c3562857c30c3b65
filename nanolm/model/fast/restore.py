"""From stored weights to the model that they are of, be they as trained or rounded to int8.

In: a config and named tensors, perhaps a stranger's. Out: a Transformer, or RunError. Reads no files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nanolm.errors import RunError
from nanolm.model.config import ModelConfig
from nanolm.model.fast.int8 import quantize
from nanolm.model.spelling import Pieces, SpelledEmbedding, pieces_of
from nanolm.model.transformer import Transformer


def is_rounded(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether some of the weights are int8."""
    return any(tensor.dtype == torch.int8 for tensor in tensors.values())


def restored(
    path: Path, config: ModelConfig, vocabulary: Sequence[str], tensors: dict[str, torch.Tensor]
) -> Transformer:
    """The model of these weights, in eval mode, its embedding folded. Shapes are compared before anything is allocated:
    a config may lie."""
    spelt = "embedding.spelling" in tensors and config.spelling > 0 and not is_rounded(tensors)

    def made(pieces: Pieces | None = None) -> Transformer:
        model = Transformer(config, len(vocabulary), config.context or 0, pieces)
        if is_rounded(tensors):
            quantize(model)
        return model

    wanted: dict[str, Any] = {}
    if config.context and config.nblocks <= len(tensors):
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in made().state_dict().items()}
    if wanted and spelt:
        wanted["embedding.spelling"] = torch.Size((config.spelling, config.dims))
    if not wanted or wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        raise RunError(
            f"{path}: its weights are not those of the config beside it; copy the folder again, or train it again"
        )
    model = made(pieces_of(vocabulary, config.spelling) if spelt else None)
    model.load_state_dict(tensors)
    if isinstance(model.embedding, SpelledEmbedding):
        model.embedding = model.embedding.folded()
    return model.eval()
