"""What a model loses without a part: the change in bits per byte with each head or MLP switched off.

In: a model, documents as ids with their bytes. Out: a change for each part, zeroed and mean-ablated. Mean-ablated, a
part gives its mean over the documents at every token: what it adds always stays, what it adds here goes.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nanolm.corpus.batches import evaluation_batches
from nanolm.corpus.corpus import Encoded
from nanolm.interpret.parts import Part, all_parts, model_blocks, on_heads, replaced
from nanolm.model.config import IGNORE
from nanolm.model.transformer import Transformer
from nanolm.scoring.score import encoded_nats


@dataclass
class Ablation:
    """Bits per byte more than those of the whole model."""

    part: Part
    zeroed: float
    averaged: float


def ablations(model: Transformer, encoded: Encoded, nbytes: np.ndarray) -> tuple[float, list[Ablation]]:
    """The bits per byte of the whole model (without the spelling of <UNK>), and the changes without each part."""

    def bits_per_byte() -> float:
        nats = encoded_nats(model, encoded, model.context, model.device, "fp32")
        return float(nats.sum(dtype=np.float64)) / math.log(2) / float(nbytes.sum())

    whole, means, found = bits_per_byte(), mean_outputs(model, encoded), []
    for part in all_parts(model):
        with replaced(model, part, None):
            zeroed = bits_per_byte() - whole
        with replaced(model, part, means[part]):
            averaged = bits_per_byte() - whole
        found.append(Ablation(part, zeroed, averaged))
    return whole, found


@torch.inference_mode()
def mean_outputs(model: Transformer, encoded: Encoded) -> dict[Part, Tensor]:
    """What each part gives on average over all tokens that are read; of a head, what it has gathered."""
    sums: dict[tuple[int, str], Tensor] = {}
    scored, count = torch.zeros(0), 0

    def add(block: int, kind: str, x: Tensor) -> None:
        total = (x * scored).sum((0, 1))
        sums[block, kind] = sums[block, kind] + total if (block, kind) in sums else total

    with ExitStack() as hooks:
        for number, block in enumerate(model_blocks(model)):
            hooks.enter_context(on_heads(block, partial(add, number, "heads")))
            hooks.enter_context(block.mlp.register_forward_hook(lambda m, args, out, n=number: add(n, "mlp", out)))
        for batch in evaluation_batches(encoded, model.context):
            scored = torch.from_numpy(batch.targets != IGNORE).to(model.device).unsqueeze(-1)
            count += int(scored.sum())
            model(torch.from_numpy(batch.ids).to(model.device))
    size, means = model.config.head_dims, {}
    for part in all_parts(model):
        kind = "mlp" if part.head is None else "heads"
        mean = sums[part.block, kind] / count
        means[part] = mean if part.head is None else mean[part.head * size : (part.head + 1) * size]
    return means
