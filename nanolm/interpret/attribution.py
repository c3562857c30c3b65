"""Direct logit attribution: how much each head and MLP adds to the logit of one token.

In: a model with its norms before the layers, the ids of a text, a token. Out: numbers whose sum is the logit. The last
norm is linear once its scale is known, so each part's vector goes through it and the output layer by itself.
(https://transformer-circuits.pub/2021/framework)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.interpret.parts import all_parts, collect_parts
from nanolm.model.layers import EPS, LayerNorm, RMSNorm
from nanolm.model.transformer import Transformer


@torch.inference_mode()
def logit_attribution(model: Transformer, ids: Sequence[int], token: int) -> dict[str, float]:
    """What the embedding, each part and all biases add to the logit of `token` after the text.

    ConfigError where norms stand after the sums: then no part's share can be told from the others'.
    """
    if model.norm is None:
        raise ConfigError(
            "model.norm_position=post: shares of a logit are defined only where norms stand before layers"
        )
    parts = collect_parts(model, ids)
    last, weight = parts.stream[-1, -1], model.output_weight[token]
    bias, constant = parts.biases.sum(0), 0.0
    if isinstance(model.norm, LayerNorm) and model.norm.bias is not None:
        constant = float(model.norm.bias @ weight)
    if model.output is not None and model.output.bias is not None:
        constant += float(model.output.bias.detach()[token])

    norm = model.norm

    def share(vector: Tensor) -> float:
        return float(through_norm(norm, vector, last) @ weight)

    found = {"embedding": share(parts.stream[0, -1])}
    for part in all_parts(model):
        vector = parts.mlps[part.block, -1] if part.head is None else parts.heads[part.block, part.head, -1]
        found[str(part)] = share(vector)
    return found | {"biases": share(bias) + constant}


def through_norm(norm: RMSNorm | LayerNorm, vector: Tensor, whole: Tensor) -> Tensor:
    """The norm of `whole` applied to one of its summands: linear in `vector`, without the norm's own bias."""
    if isinstance(norm, LayerNorm):
        return (vector - vector.mean()) / (whole.var(unbiased=False) + norm.eps).sqrt() * norm.weight
    return vector * (whole.square().mean() + EPS).rsqrt() * norm.weight
