"""The logit lens: what the model would say if it ended after each block.

In: a model and the ids of a text. Out: for each block and token the probability and rank of the true next token, and
the likeliest one. Two lenses: the plain one (nostalgebraist 2020) gives every block's stream to the last norm and the
output layer; the one tuned by norm first brings it to the mean and the spread that the last norm is used to, dimension
by dimension, because blocks write at scales of their own (Belrose et al. 2023, https://arxiv.org/abs/2303.08112, who
learn a map for each block; here nothing is trained).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

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


@dataclass
class StreamScale:
    """How the stream lies before the first block and after each one, over many tokens."""

    mean: Tensor  # (L + 1, D)
    spread: Tensor  # (L + 1, D): standard deviations

    def tuned(self, stream: Tensor) -> Tensor:
        """A stream (L + 1, T, D), each layer at the place and scale of the last one, which stays as it is."""
        moved = (stream - self.mean[:, None]) / self.spread[:, None].clamp_min(1e-9) * self.spread[-1] + self.mean[-1]
        return torch.cat([moved[:-1], stream[-1:]])


@torch.inference_mode()
def stream_scale(model: Transformer, texts: Sequence[Sequence[int]]) -> StreamScale:
    """The scale over all tokens of the texts' first windows but <BOS>, at which models park what they don't need."""
    streams = [collect_parts(model, ids[: model.context]).stream[:, 1:] for ids in texts]
    stream = torch.cat(streams, 1)
    return StreamScale(stream.mean(1), stream.std(1, unbiased=False))


@torch.inference_mode()
def logit_lens(model: Transformer, ids: Sequence[int], scale: Optional[StreamScale] = None) -> Lens:
    """The lens over a text of at least two tokens, tuned where a scale is given. The last row is the model's output."""
    stream = collect_parts(model, ids).stream[:, :-1]
    if scale is not None:
        stream = scale.tuned(stream)
    hidden = stream if model.norm is None else model.norm(stream)
    logprobs = model.logits(hidden).log_softmax(-1)  # (L + 1, T - 1, V)
    true = torch.tensor(ids[1:], device=model.device).expand(logprobs.shape[:2]).unsqueeze(-1)
    own = logprobs.gather(-1, true)
    return Lens(own[..., 0].exp(), (logprobs > own).sum(-1) + 1, logprobs.argmax(-1))
