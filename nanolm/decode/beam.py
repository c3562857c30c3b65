"""Beam search, with the semantics of transformers 5: length penalty over generated tokens only, its early stopping.

In: prompts as ids. Out: for each the best hypotheses found, best first. All beams of all prompts are one batch; a
prompt that is done leaves it. The bookkeeping is on the host, in plain lists: 2 * num_beams candidates per prompt.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Union

from nanolm.config import between, knob, one_of
from nanolm.decode.base import DecodeConfig, Hypothesis, Rows, Stepper, prefill
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
    def width(self) -> int:
        """How many rows of a batch one prompt takes."""
        return self.num_beams

    def decode(self, model: Stepper, prompts: Rows, context: int, seeds: Rows) -> list[list[Hypothesis]]:
        """See DecodeConfig.decode; no chance in it. Fewer hypotheses than asked for where no more are possible."""
        import torch

        width, read = self.num_beams, max(map(len, prompts))
        searches = live = [Search(self, limit) for limit in self.limits(prompts, context)]
        history, cache, logits = prefill(model, prompts, width)
        space = history.new_zeros(len(history), max(search.limit for search in searches))
        history = torch.cat([history, space], 1)  # (B * width, read + longest limit)
        totals = torch.tensor([0.0] + [-inf] * (width - 1), device=model.device).repeat(len(prompts))
        nats = torch.zeros_like(totals)
        for new in range(1, space.shape[1] + 1):
            logprobs = logits.log_softmax(-1)  # over the whole vocabulary, before the filters
            scores = self.filter(logprobs, history, read + new - 1, new - 1) + totals[:, None]
            for search, candidates in zip(live, best(scores, logprobs, nats, width), strict=True):
                search.advance(candidates, history[:, read : read + new - 1], new)
            live = [search for search in live if search.beams]
            if not live:
                break
            beams = [beam for search in live for beam in seated(search.beams)]
            rows = [beam.row for beam in beams]
            if rows != list(range(len(history))):
                index = torch.tensor(rows, device=model.device)
                cache.select(index)
                history = history[index]
            tokens = torch.tensor([beam.token for beam in beams], device=model.device)
            totals = torch.tensor([beam.score for beam in beams], device=model.device)
            nats = torch.tensor([beam.nats for beam in beams], device=model.device)
            history[:, read + new - 1] = tokens
            logits = model.step(tokens[:, None], cache)
        return [search.hypotheses[: self.num_return_sequences] for search in searches]


class Candidate(NamedTuple):
    """A beam with one token more. Its `row` is that of the beam."""

    score: float  # the sum of filtered log-probabilities
    nats: float  # the sum of the model's own
    row: int
    token: int


def best(scores: "Tensor", logprobs: "Tensor", nats: "Tensor", width: int) -> list[list[Candidate]]:
    """The 2 * width best candidates of every prompt, best first: so many that `width` of them don't end in <EOS>.

    scores, logprobs: (prompts * width, V), of each beam with each token more; nats: (prompts * width,), before it.
    """
    size = width * scores.shape[1]  # scores of one prompt
    top, flat = scores.view(-1, size).topk(2 * width)
    sums = logprobs.view(-1, size).gather(1, flat) + nats.view(-1, width).gather(1, flat // scores.shape[1])
    table = zip(top.tolist(), sums.tolist(), flat.tolist(), strict=True)
    return [
        [Candidate(a, b, *divmod(prompt * size + at, scores.shape[1])) for a, b, at in zip(*lists, strict=True)]
        for prompt, lists in enumerate(table)
    ]


def seated(beams: list[Candidate]) -> list[Candidate]:
    """The beams of a prompt, the best of each parent in the parent's place: less of the cache moves."""
    heirs: dict[int, Candidate] = {}
    others = [beam for beam in beams if heirs.setdefault(beam.row, beam) is not beam]
    first = beams[0].row - beams[0].row % len(beams)
    return [heirs.get(row) or others.pop() for row in range(first, first + len(beams))]


class Search:
    """The state of one prompt: its finished hypotheses, best first, and the beams that go on (none: it is done)."""

    def __init__(self, config: Beam, limit: int) -> None:
        self.config, self.limit = config, limit
        self.hypotheses: list[Hypothesis] = []
        self.beams: list[Candidate] = []

    def advance(self, candidates: list[Candidate], written: "Tensor", new: int) -> None:
        """Takes the candidates of step `new`, best first; `written` (rows, new - 1) holds the tokens before them."""
        width, last = self.config.num_beams, new == self.limit
        for one in candidates[:width]:  # the others are there only to go on
            if (last or one.token == EOS) and one.score > -inf:
                ids = [*written[one.row].tolist(), one.token]
                score = one.score / new**self.config.length_penalty
                self.hypotheses.append(Hypothesis(ids, one.nats, score, one.token == EOS))
        self.hypotheses = sorted(self.hypotheses, key=lambda hypothesis: -hypothesis.score)[:width]
        self.beams = [one for one in candidates if one.token != EOS][:width]
        if last or not self._can_improve(new):
            self.beams = []

    def _can_improve(self, new: int) -> bool:
        """Whether the best beam could still get among the hypotheses; with `never`, at the best length for it."""
        lead, config = self.beams[0].score, self.config
        if len(self.hypotheses) < config.num_beams or lead == -inf:
            return lead > -inf
        length = self.limit if config.early_stopping == "never" and config.length_penalty > 0 else new
        return config.early_stopping is not True and lead / length**config.length_penalty > self.hypotheses[-1].score
