"""The logit lens: what the model would say if it ended after each block.

In: a model and the ids of a text. Out: for each block and token the probability and rank of the true next token, and
the likeliest one. (nostalgebraist 2020; the last norm is applied to every block's stream, without which early blocks
seem to know less than they do: Belrose et al. 2023, https://arxiv.org/abs/2303.08112.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanolm.interpret.parts import collect_parts
from nanolm.model.transformer import Transformer


@dataclass
class Lens:
    """Rows: before the first block, then after each; columns: the tokens but the last, which nothing follows."""

    probabilities: Tensor  # (L + 1, T - 1): of the true next token
    ranks: Tensor  # (L + 1, T - 1): its rank, from 1
    likeliest: Tensor  # (L + 1, T - 1): the id of the token that the model would say


@torch.inference_mode()
def logit_lens(model: Transformer, ids: Sequence[int]) -> Lens:
    """The lens over a text of at least two tokens. The last row is the model's output itself."""
    stream = collect_parts(model, ids).stream[:, :-1]
    hidden = stream if model.norm is None else model.norm(stream)
    logprobs = model.logits(hidden).log_softmax(-1)  # (L + 1, T - 1, V)
    true = torch.tensor(ids[1:], device=model.device).expand(logprobs.shape[:2]).unsqueeze(-1)
    own = logprobs.gather(-1, true)
    return Lens(own[..., 0].exp(), (logprobs > own).sum(-1) + 1, logprobs.argmax(-1))
