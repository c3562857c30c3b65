"""A toy language model for the tests of decoding, and the ids of a few prompts."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from nanolm.decode.base import DecodeConfig, Hypothesis
from nanolm.tokenizer.base import BOS, EOS, PAD

PROMPTS = [[BOS, 5, 4, 6], [BOS], [BOS, 6, 6], [BOS, 4, 5, 4, 5, 4], [BOS, 7]]


class ToyCache:
    """The ids of each row, its padding left out."""

    def __init__(self, starts: Sequence[int]) -> None:
        self.starts = list(starts)
        self.rows: list[list[int]] = [[] for _ in starts]

    def select(self, index: Tensor) -> None:
        self.starts = [self.starts[i] for i in index.tolist()]
        self.rows = [list(self.rows[i]) for i in index.tolist()]


class Toy:
    """A language model that remembers everything: its logits are a random function of all ids of the row."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int = 9, scale: float = 2.0, eos: float = 0.0, seed: int = 0) -> None:
        self.vocabulary, self.scale, self.eos, self.seed = vocabulary, scale, eos, seed
        self.read = 0  # ids, padding included

    def new_cache(self, batch: int, starts: Optional[Tensor] = None) -> ToyCache:
        return ToyCache([0] * batch if starts is None else starts.tolist())

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        self.read += ids.numel()
        for row, new in enumerate(ids.tolist()):
            padding = min(cache.starts[row], len(new)) if not cache.rows[row] else 0
            assert new[:padding] == [PAD] * padding
            cache.rows[row].extend(new[padding:])
        return torch.stack([self.logits(row) for row in cache.rows])

    def logits(self, ids: Sequence[int]) -> Tensor:
        values = np.random.default_rng([self.seed, *ids]).normal(size=self.vocabulary) * self.scale
        values[EOS] += self.eos
        return torch.tensor(values, dtype=torch.float32)

    def logprob(self, prompt: Sequence[int], ids: Sequence[int]) -> float:
        """The sum of the log-probabilities of `ids` after `prompt`."""
        steps = (self.logits([*prompt, *ids[:i]]).log_softmax(-1)[token] for i, token in enumerate(ids))
        return float(sum(steps))


def run(config: DecodeConfig, toy: Toy, prompts: list[list[int]], context: int = 12) -> list[list[Hypothesis]]:
    return config.decode(toy, prompts, context, [(3, i) for i in range(len(prompts))])
