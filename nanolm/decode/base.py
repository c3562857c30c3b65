"""What every decoding strategy shares: the fields, the filters they mean, and the reading of prompts.

In: prompts as ids and a model that answers `step(ids, cache)`. Out: hypotheses, the best first. Knows no text, no
tokenizer (only the ids of its special tokens) and no file. Field names and their meaning are those of
`transformers.generate`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Protocol

from nanolm.config import MISSING, between, check_name, knob, one_of
from nanolm.decode import filters
from nanolm.errors import ConfigError, RunError
from nanolm.tokenizer.base import EOS, PAD

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ids = Sequence[Sequence[int]]  # of several prompts; or the whole numbers that are their seeds
# (which prompt, the new ids so far) -> whether a stop string is complete; asked after every token
Stop = Callable[[int, Sequence[int]], bool]
OVERFLOWS = ("stop", "slide")


class Stepper(Protocol):
    """What decoding asks of a model."""

    @property
    def device(self) -> "torch.device":
        """Where ids are to lie."""

    def new_cache(self, batch: int, starts: Optional["Tensor"] = None) -> Any:
        """An empty cache of `batch` rows; its `select(index)` keeps, repeats or reorders rows.

        starts (batch,): how many columns of padding each row begins with; None: no row has any.
        """

    def step(self, ids: "Tensor", cache: Any) -> "Tensor":
        """Takes in ids (B, T) and returns the float32 logits (B, V) of what follows each row."""


@dataclass
class Hypothesis:
    """One continuation."""

    ids: list[int]  # without the prompt; ends with <EOS> where finished
    logprob: float  # nats: the sum of the model's own log-probabilities of `ids`, before any filter
    score: float  # what ranked it: in beam search filtered and length-penalised, else the logprob
    finished: bool  # by <EOS> or a stop string, not by the limit


@dataclass
class DecodeConfig:
    """The shared fields. `<PAD> <UNK> <BOS>` are never generated; where every token is forbidden, `<EOS>` is not."""

    name: str = MISSING
    max_new_tokens: Optional[int] = knob(None, "null: until <EOS> or the end of the context")
    min_new_tokens: int = knob(0, "no <EOS> before so many")
    repetition_penalty: float = knob(1.0, "above 1: tokens seen before, the prompt's too, get less likely")
    no_repeat_ngram_size: int = knob(0, "no n-gram of so many tokens occurs twice; 0: off")
    num_return_sequences: int = knob(1, "texts per prompt")
    stop: list[str] = knob([], "strings that end a text once they are written, as ['.']")
    overflow: str = knob("stop", "stop | slide: at the end of the context, or on from its last three quarters")

    def __post_init__(self) -> None:
        check_name("decode", self)
        between("decode.max_new_tokens", self.max_new_tokens, 1)
        between("decode.min_new_tokens", self.min_new_tokens, 0)
        between("decode.repetition_penalty", self.repetition_penalty, 0, open_low=True)
        between("decode.no_repeat_ngram_size", self.no_repeat_ngram_size, 0)
        between("decode.num_return_sequences", self.num_return_sequences, 1)
        one_of("decode.overflow", self.overflow, OVERFLOWS)
        if self.overflow == "slide" and self.max_new_tokens is None:
            raise ConfigError("decode.overflow=slide: a text may never end; give decode.max_new_tokens too")
        if not all(self.stop):
            raise ConfigError("decode.stop: an empty string is in every text; leave it out")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            most = f"decode.max_new_tokens={self.max_new_tokens}"
            raise ConfigError(f"decode.min_new_tokens={self.min_new_tokens}: must be at most {most}")

    @property
    def rows_per_prompt(self) -> int:
        """How many rows of a batch one prompt takes."""
        return self.num_return_sequences

    def decode(
        self, model: Stepper, prompts: Ids, context: int, seeds: Ids, stop: Optional[Stop] = None
    ) -> list[list[Hypothesis]]:
        """`num_return_sequences` hypotheses for each prompt, the best first; at most to the end of the context.

        prompts: ids, at least one (<BOS>) and at most `context` each. seeds: whole numbers >= 0 per prompt, from which
        all chance is drawn, so that no prompt's result depends on what else is in the batch.
        """
        raise NotImplementedError

    def stream(
        self, model: Stepper, prompt: Sequence[int], context: int, seed: Sequence[int], stop: Optional[Stop] = None
    ) -> Iterator[tuple[int, int]]:
        """(hypothesis, id) of all hypotheses of a prompt, with <EOS>, as soon as they are decided: here, at the end."""
        for which, hypothesis in enumerate(self.decode(model, [prompt], context, [seed], stop)[0]):
            yield from ((which, token) for token in hypothesis.ids)

    def limits(self, prompts: Ids, context: int) -> list[int]:
        """How many new tokens each prompt has room for: the last one is never fed back, so it needs no position."""
        rooms = [context + 1 - len(prompt) for prompt in prompts]
        if not all(prompts) or min(rooms, default=1) < 1:
            raise ValueError(f"a prompt must have 1 to {context} ids")
        return [min(room, self.max_new_tokens or room) for room in rooms]

    def filter(self, scores: "Tensor", history: "Tensor", new: int) -> "Tensor":
        """Scores (B, V) after the shared filters, in the order of transformers.

        history (B, T): all ids of each row so far, left-padded; new: how many of them are not the prompt's.
        """
        before = scores
        if self.repetition_penalty != 1:
            scores = filters.repetition_penalty(scores, history, self.repetition_penalty)
        if self.no_repeat_ngram_size:
            scores = filters.no_repeat_ngram(scores, history, self.no_repeat_ngram_size)
        if new >= self.min_new_tokens:
            return filters.suppress(scores, range(EOS))
        return filters.unless_stuck(filters.suppress(scores, range(EOS + 1)), before, EOS)


def prefill(model: Stepper, prompts: Ids, copies: int) -> tuple["Tensor", Any, "Tensor"]:
    """Reads all prompts in one step, then repeats each `copies` times: history (B, T), cache, logits (B, V).

    Shorter prompts are padded on the left, so that all rows go on in the same column. B = len(prompts) * copies.
    """
    import torch

    length = max(map(len, prompts))
    padded = [[PAD] * (length - len(prompt)) + list(prompt) for prompt in prompts]
    starts = [length - len(prompt) for prompt in prompts]
    ids = torch.tensor(padded, device=model.device)
    cache = model.new_cache(len(prompts), torch.tensor(starts, device=model.device) if any(starts) else None)
    logits = model.step(ids, cache)
    if bool(logits.isnan().any()):
        raise RunError(
            "the model answers with nan instead of scores: its weights are damaged, take those of another run"
        )
    if copies == 1:
        return ids, cache, logits
    index = torch.arange(len(prompts), device=model.device).repeat_interleave(copies)
    cache.select(index)
    return ids[index], cache, logits[index]
