"""Beam search, with the semantics of transformers 5: length penalty over generated tokens only, its early stopping.

In: prompts as ids. Out: for each the best hypotheses found, best first. All beams of all prompts are one batch; a
prompt that is done leaves it. The bookkeeping is on the host, in plain lists: 2 * num_beams candidates per prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from nanolm.config import between, knob, one_of
from nanolm.decode.base import DecodeConfig, Hypothesis, Ids, Stepper, Stop, prefill
from nanolm.errors import ConfigError
from nanolm.tokenizer.base import EOS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Beam(DecodeConfig):
    """The `num_beams` best beginnings are kept at each step.

    A finished hypothesis scores sum of log-probabilities / (generated tokens ** length_penalty). early_stopping true: a
    prompt is done with its num_beams-th finished hypothesis; false: when its best beam, ended now, could not get among
    them; never: when it could not get among them at any length.
    """

    name: str = "beam"
    num_beams: int = knob(5, "beginnings kept at each step")
    length_penalty: float = knob(1.0, "above 0 favours long texts, below 0 short ones")
    early_stopping: Union[bool, str] = knob(False, "true | false | never: when a prompt is done with its beams")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("decode.num_beams", self.num_beams, 1)
        between("decode.length_penalty", self.length_penalty, -10, 10)
        one_of("decode.early_stopping", self.early_stopping, (True, False, "never"))
        if self.num_return_sequences > self.num_beams:
            most = f"decode.num_beams={self.num_beams}"
            raise ConfigError(f"decode.num_return_sequences={self.num_return_sequences}: must be at most {most}")

    @property
    def rows_per_prompt(self) -> int:
        """How many rows of a batch one prompt takes."""
        return self.num_beams

    def decode(
        self, model: Stepper, prompts: Ids, context: int, seeds: Ids, stop: Optional[Stop] = None
    ) -> list[list[Hypothesis]]:
        """See DecodeConfig.decode; no chance in it. Fewer hypotheses than asked for where no more are possible."""
        import torch

        width = self.num_beams
        limits = enumerate(self.limits(prompts, context))
        searches = live = [Search(self, limit, stop and partial(stop, prompt)) for prompt, limit in limits]
        history, cache, logits = prefill(model, prompts, width)  # history: (B * width, columns)
        start = history.shape[1]
        totals = torch.tensor([0.0] + [-inf] * (width - 1), device=model.device).repeat(len(prompts))
        nats = torch.zeros_like(totals)
        for new in range(1, max(search.limit for search in searches) + 1):
            logprobs = logits.log_softmax(-1)  # over the whole vocabulary, before the filters
            scores = self.filter(logprobs, history, new - 1) + totals[:, None]
            for search, candidates in zip(live, top_candidates(scores, logprobs, nats, width), strict=True):
                search.advance(candidates, history[:, start:], new)
            live = [search for search in live if search.beams]
            if not live:
                break
            beams = [beam for search in live for beam in in_place_of_parents(search.beams)]
            rows = [beam.row for beam in beams]
            if rows != list(range(len(history))):
                index = torch.tensor(rows, device=model.device)
                cache.select(index)
                history = history[index]
            tokens = torch.tensor([[beam.token] for beam in beams], device=model.device)
            totals = torch.tensor([beam.score for beam in beams], device=model.device)
            nats = torch.tensor([beam.nats for beam in beams], device=model.device)
            history = torch.cat([history, tokens], 1)
            logits = model.step(tokens, cache)
        return [search.hypotheses[: self.num_return_sequences] for search in searches]


class Candidate(NamedTuple):
    """A beam with one token more. Its `row` is that of the beam."""

    score: float  # the sum of filtered log-probabilities
    nats: float  # the sum of the model's own
    row: int
    token: int


def top_candidates(scores: "Tensor", logprobs: "Tensor", nats: "Tensor", width: int) -> list[list[Candidate]]:
    """The 2 * width best candidates of every prompt, best first: so many that `width` of them don't end in <EOS>.

    scores, logprobs: (prompts * width, V), of each beam with each token more; nats: (prompts * width,), before it.
    """
    vocabulary = scores.shape[1]
    top, flat = scores.view(-1, width * vocabulary).topk(2 * width)  # (prompts, 2 * width)
    beams, tokens = flat // vocabulary, flat % vocabulary
    sums = logprobs.view(-1, width * vocabulary).gather(1, flat) + nats.view(-1, width).gather(1, beams)
    found = []
    for prompt, columns in enumerate(zip(top.tolist(), sums.tolist(), beams.tolist(), tokens.tolist(), strict=True)):
        candidates = zip(*columns, strict=True)
        found.append([Candidate(score, sum_, prompt * width + beam, token) for score, sum_, beam, token in candidates])
    return found


def in_place_of_parents(beams: list[Candidate]) -> list[Candidate]:
    """The beams of a prompt, the best of each parent in the parent's row: less of the cache moves."""
    first_of: dict[int, Candidate] = {}
    others = []
    for beam in beams:
        if beam.row in first_of:
            others.append(beam)
        else:
            first_of[beam.row] = beam
    start = beams[0].row - beams[0].row % len(beams)
    return [first_of[row] if row in first_of else others.pop() for row in range(start, start + len(beams))]


class Search:
    """The state of one prompt: its finished hypotheses, best first, and the beams that go on (none: it is done)."""

    def __init__(self, config: Beam, limit: int, stop: Optional[Callable[[Sequence[int]], bool]]) -> None:
        self.config, self.limit, self.stop = config, limit, stop
        self.hypotheses: list[Hypothesis] = []
        self.beams: list[Candidate] = []

    def advance(self, candidates: list[Candidate], written: "Tensor", new: int) -> None:
        """Takes the candidates of step `new`, best first; `written` (rows, new - 1) holds the tokens before them."""
        width, last = self.config.num_beams, new == self.limit
        ended = [self._has_ended(one, written) for one in candidates]
        for one, finished in zip(candidates[:width], ended, strict=False):  # the others are there only to go on
            if (last or finished) and one.score > -inf:
                ids = [*written[one.row].tolist(), one.token]
                score = one.score / new**self.config.length_penalty
                self.hypotheses.append(Hypothesis(ids, one.nats, score, finished))
        self.hypotheses = sorted(self.hypotheses, key=lambda hypothesis: -hypothesis.score)[:width]
        self.beams = [one for one, finished in zip(candidates, ended, strict=True) if not finished][:width]
        while len(self.beams) < width:  # stop strings have ended the others
            self.beams.append(candidates[0]._replace(score=-inf))
        if last or not self._can_improve(new):
            self.beams = []

    def _has_ended(self, one: Candidate, written: "Tensor") -> bool:
        if one.token == EOS or self.stop is None:
            return one.token == EOS
        return self.stop([*written[one.row].tolist(), one.token])

    def _can_improve(self, new: int) -> bool:
        """Whether the best beam could still get among the hypotheses; with `never`, at the best length for it."""
        config, best = self.config, self.beams[0].score
        if best == -inf:
            return False
        if len(self.hypotheses) < config.num_beams:
            return True
        if config.early_stopping is True:
            return False
        length = self.limit if config.early_stopping == "never" and config.length_penalty > 0 else new
        return best / length**config.length_penalty > self.hypotheses[-1].score
