"""Token after token, drawn by chance from the filtered distribution.

In: prompts as ids, and a seed for each. Out: their continuations. Every row draws from its own seed, so that it
doesn't depend on the batch it is in.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from nanolm.config import between, knob
from nanolm.decode import filters
from nanolm.decode.autoregressive import Autoregressive, Picker
from nanolm.decode.base import Ids, Stepper
from nanolm.decode.greedy import check_one_answer, likeliest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Sample(Autoregressive):
    """Chance with a temperature; the filters are off by default, so that the model speaks for itself."""

    name: str = "sample"
    temperature: float = knob(1.0, "0: greedy")
    top_k: Optional[int] = knob(None, "only the k likeliest tokens; null or 0: all")
    top_p: Optional[float] = knob(None, "only the fewest tokens that together reach this share; null or 1: all")
    min_p: Optional[float] = knob(None, "only tokens at least so likely relative to the likeliest; null or 0: all")

    def __post_init__(self) -> None:
        between("decode.temperature", self.temperature, 0)
        between("decode.top_k", self.top_k, 0)
        between("decode.top_p", self.top_p, 0, 1)
        between("decode.min_p", self.min_p, 0, 1)
        super().__post_init__()
        if self.temperature == 0:
            check_one_answer(self.num_return_sequences)

    def picker(self, model: Stepper, length: int, seeds: Ids) -> Picker:
        """Draws copy c of a prompt from the numbers that (*seed, c) gives, one per token."""
        if self.temperature == 0:
            return lambda scores, rows, new: likeliest(scores)
        import numpy as np
        import torch

        # float32 sums in order on a CPU never step back; a GPU's parallel ones could, on to a token of weight 0: there
        # they are made in float64, or for mps, which has none, on the CPU
        kind = torch.float64 if model.device.type == "cuda" else torch.float32
        where = torch.device("cpu") if model.device.type == "mps" else model.device
        generators = [np.random.default_rng([*seed, copy]) for seed in seeds for copy in range(self.rows_per_prompt)]
        uniform = np.array([generator.random(length, np.float32) for generator in generators])
        noise = torch.from_numpy(uniform).to(where, kind)  # (rows, length)

        def pick(scores: "Tensor", rows: "Tensor", new: int) -> "Tensor":
            return draw(self.warp(scores).to(where), noise[rows.to(where), new]).to(scores.device)

        return pick

    def warp(self, scores: "Tensor") -> "Tensor":
        """Scores (B, V) after the filters of sampling, in the order of transformers."""
        if self.temperature != 1:
            scores = filters.temperature(scores, self.temperature)
        if self.top_k:
            scores = filters.top_k(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            scores = filters.top_p(scores, self.top_p)
        return filters.min_p(scores, self.min_p) if self.min_p else scores


def draw(scores: "Tensor", uniform: "Tensor") -> "Tensor":
    """The tokens (B,) at the quantiles `uniform` (B,), in [0, 1), of the distributions softmax(scores) (B, V)."""
    import torch

    cumulative = scores.softmax(-1).cumsum(-1, dtype=uniform.dtype)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
