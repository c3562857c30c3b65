"""Token after token, the likeliest each time; `sample.py` inherits the loop and chooses by chance.

In: prompts as ids. Out: their continuations. The loop knows no text and no beams: each row of the batch lives alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanolm.decode.base import DecodeConfig, Hypothesis, Rows, Stepper, prefill
from nanolm.errors import ConfigError
from nanolm.tokenizer.base import EOS

if TYPE_CHECKING:
    from torch import Tensor

# (filtered scores (B, V), which row each line is (B,), tokens so far) -> the next tokens (B,)
Chooser = Callable[["Tensor", "Tensor", int], "Tensor"]
SHRINK = 0.75  # finished rows leave when at most so many are left: a leaving copies the cache, a stay costs their step
LOOK = {"cuda": 8}  # the loop asks only every so many steps whether rows have ended: each look waits for the device


@dataclass
class Greedy(DecodeConfig):
    """The likeliest token, every time."""

    name: str = "greedy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.certain and self.num_return_sequences > 1:
            mend = "set it to 1, take decode=beam, or decode=sample with a temperature above 0"
            raise ConfigError(f"decode.num_return_sequences={self.num_return_sequences}: greedy has one answer; {mend}")

    @property
    def certain(self) -> bool:
        """Whether chance has no part in it."""
        return True

    def chooser(self, model: Stepper, length: int, seeds: Rows) -> Chooser:
        """What picks up to `length` next tokens for each of the rows."""
        return lambda scores, rows, new: likeliest(scores)

    def decode(self, model: Stepper, prompts: Rows, context: int, seeds: Rows) -> list[list[Hypothesis]]:
        """See DecodeConfig.decode. The copies of one prompt share its reading."""
        import torch

        limits = [limit for limit in self.limits(prompts, context) for _ in range(self.width)]
        ids = torch.full((len(limits), max(limits)), EOS, device=model.device)
        nats = torch.zeros(ids.shape, device=model.device)
        rows, tokens, logprobs = zip(*self._steps(model, prompts, limits, seeds), strict=True)
        new = torch.cat([torch.full_like(each, step) for step, each in enumerate(rows)])
        where = torch.cat(rows), new
        ids[where], nats[where] = torch.cat(tokens)[:, 0], torch.cat(logprobs)[:, 0]
        done = [_cut(*row) for row in zip(ids.tolist(), nats.tolist(), limits, strict=True)]
        return [done[start : start + self.width] for start in range(0, len(done), self.width)]

    def stream_all(
        self, model: Stepper, prompt: Sequence[int], context: int, seed: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """(hypothesis, id) of all hypotheses, a token of each in turn; <EOS> is the last of a hypothesis."""
        ended: set[int] = set()
        for rows, tokens, _ in self._steps(model, [prompt], self.limits([prompt], context) * self.width, [seed]):
            new = [pair for pair in zip(rows.tolist(), tokens[:, 0].tolist(), strict=True) if pair[0] not in ended]
            ended |= {row for row, token in new if token == EOS}
            yield from new
            if len(ended) == self.width:
                return

    def _steps(
        self, model: Stepper, prompts: Rows, limits: Sequence[int], seeds: Rows
    ) -> Iterator[tuple["Tensor", "Tensor", "Tensor"]]:
        """Per step the rows (B,) that are in the batch, their tokens and log-probabilities (B, 1); limits: one per row.

        A row goes on after its <EOS> until it leaves the batch: the reader cuts. At its limit it leaves at once.
        """
        import torch

        length, look = max(limits), LOOK.get(model.device.type, 1)
        choose = self.chooser(model, length, seeds)
        history, cache, logits = prefill(model, prompts, self.width)
        read = history.shape[1]
        history = torch.cat([history, history.new_zeros(len(limits), length)], 1)  # (B, read + length)
        rows, running, unseen = torch.arange(len(limits), device=model.device), [True] * len(limits), []
        for new in range(length):
            tokens = choose(self.filter(logits, history, read + new, new), rows, new)[:, None]
            yield rows, tokens, logits.log_softmax(-1).gather(1, tokens)
            unseen.append(tokens)
            at_limit = new + 1 in limits
            if at_limit or len(unseen) == look:
                seen, unseen = torch.cat(unseen, 1).tolist(), []
                states = zip(running, seen, limits, strict=True)
                running = [on and EOS not in ids and limit > new + 1 for on, ids, limit in states]
                if not any(running):
                    return
                if sum(running) < len(running) and (at_limit or sum(running) <= SHRINK * len(running)):
                    keep = torch.tensor(running, device=model.device).nonzero()[:, 0]
                    cache.select(keep)
                    history, tokens, rows = history[keep], tokens[keep], rows[keep]
                    limits = [limit for on, limit in zip(running, limits, strict=True) if on]
                    running = [True] * len(limits)
            history[:, read + new : read + new + 1] = tokens
            logits = model.step(tokens, cache)


def likeliest(scores: "Tensor") -> "Tensor":
    """The tokens (B,) with the best scores (B, V); numpy finds them in a fifth of the time of torch on a CPU."""
    import torch

    return torch.from_numpy(scores.numpy().argmax(-1)) if scores.device.type == "cpu" else scores.argmax(-1)


def _cut(ids: list[int], nats: list[float], limit: int) -> Hypothesis:
    """The hypothesis in a row of the table: up to its <EOS>, or to its limit."""
    finished = EOS in ids[:limit]
    size = ids.index(EOS) + 1 if finished else limit
    return Hypothesis(ids[:size], sum(nats[:size]), sum(nats[:size]), finished)
