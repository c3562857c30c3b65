"""Token after token: the loop that greedy decoding and sampling share. Each row of the batch lives alone.

In: prompts as ids, and what picks the next token of a row. Out: their continuations, whole or as they are written.
A row is one continuation of one prompt. Knows no text and no beams.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

from nanolm.decode.base import DecodeConfig, Hypothesis, Ids, Stepper, Stop, prefill
from nanolm.tokenizer.base import EOS

if TYPE_CHECKING:
    from torch import Tensor

# (filtered scores (B, V), which row each line is (B,), tokens so far) -> the next tokens (B,)
Picker = Callable[["Tensor", "Tensor", int], "Tensor"]
SHRINK = 0.75  # ended rows leave when at most so many are left: a leaving copies the cache, a stay costs their step
LOOK = {"cuda": 8}  # the loop asks only every so many steps whether rows have ended: each look waits for the device


class DecodedTokens(NamedTuple):
    """One new token of each row that is in the batch."""

    rows: "Tensor"  # (B,)
    tokens: "Tensor"  # (B,)
    logits: "Tensor"  # (B, V) that the model gave them, before the filters
    stopped: list[int]  # the rows that this token ends by a stop string


class Autoregressive(DecodeConfig):
    """What greedy and sample inherit: they only say how the next token is picked."""

    def picker(self, model: Stepper, length: int, seeds: Ids) -> Picker:
        """What picks up to `length` next tokens for each of the rows."""
        raise NotImplementedError

    def decode(
        self, model: Stepper, prompts: Ids, context: int, seeds: Ids, stop: Optional[Stop] = None
    ) -> list[list[Hypothesis]]:
        """See DecodeConfig.decode. The copies of one prompt share its prefill."""
        import torch

        limits = self.row_limits(prompts, context)
        ids = torch.full((len(limits), max(limits)), EOS, device=model.device)
        nats = torch.zeros(ids.shape, device=model.device)
        taken, stopped = list[tuple["Tensor", ...]](), dict[int, int]()
        for new, step in enumerate(self.steps(model, prompts, limits, seeds, stop)):
            logprobs = step.logits.log_softmax(-1).gather(1, step.tokens[:, None])[:, 0]
            taken.append((step.rows, torch.full_like(step.rows, new), step.tokens, logprobs))
            stopped |= dict.fromkeys(step.stopped, new + 1)
        rows, columns, tokens, logprobs = map(torch.cat, zip(*taken, strict=True))
        ids[rows, columns], nats[rows, columns] = tokens, logprobs
        found, ids_of, nats_of = list[Hypothesis](), ids.tolist(), nats.tolist()
        for row, limit in enumerate(limits):
            found.append(cut(ids_of[row], nats_of[row], stopped.get(row, limit), row in stopped))
        return [found[start : start + self.rows_per_prompt] for start in range(0, len(found), self.rows_per_prompt)]

    def stream(
        self, model: Stepper, prompt: Sequence[int], context: int, seed: Sequence[int], stop: Optional[Stop] = None
    ) -> Iterator[tuple[int, int]]:
        """(hypothesis, id) of all hypotheses, a token of each in turn; <EOS> is the last of a hypothesis."""
        ended: set[int] = set()
        for step in self.steps(model, [prompt], self.row_limits([prompt], context), [seed], stop):
            for row, token in zip(step.rows.tolist(), step.tokens.tolist(), strict=True):
                if row not in ended:
                    yield row, token
                if token == EOS or row in step.stopped:
                    ended.add(row)
            if len(ended) == self.rows_per_prompt:
                return

    def row_limits(self, prompts: Ids, context: int) -> list[int]:
        """How many new tokens each row has room for."""
        return [limit for limit in self.limits(prompts, context) for _ in range(self.rows_per_prompt)]

    def steps(
        self, model: Stepper, prompts: Ids, limits: Sequence[int], seeds: Ids, stop: Optional[Stop] = None
    ) -> Iterator[DecodedTokens]:
        """A step of all rows in the batch after the other; limits: one per row.

        A row goes on after its <EOS> until it leaves the batch: the reader cuts. At its limit it leaves at once.
        """
        pick = self.picker(model, max(limits), seeds)
        copies = self.rows_per_prompt
        batch = RunningRows(model, prompts, copies, limits, stop and (lambda row, new: stop(row // copies, new)))
        for new in range(max(limits)):
            scores = self.filter(batch.logits, batch.history[:, : batch.length], new)
            tokens = pick(scores, batch.rows, new)
            rows, logits, stopped = batch.rows, batch.logits, batch.add(tokens)
            yield DecodedTokens(rows, tokens, logits, stopped)
            if not any(batch.running):
                return
            batch.read_last()


class RunningRows:
    """The rows that are being written, and what the model has to know of them.

    rows (B,): which row each line is. history (B, columns): in the first `length` columns the ids so far. running: of
    each line, whether it has neither ended nor reached its limit, as far as the host has looked.
    """

    def __init__(
        self, model: Stepper, prompts: Ids, copies: int, limits: Sequence[int], stop: Optional[Stop] = None
    ) -> None:
        import torch

        self.model, self.limits, self.stop, self.new = model, list(limits), stop, 0
        self.look_every = LOOK.get(model.device.type, 1)
        self.written: list[list[int]] = [[] for _ in limits]  # of each row, where there are stop strings
        self.running, self.unseen = [True] * len(limits), list["Tensor"]()
        prompt, self.cache, self.logits = prefill(model, prompts, copies)
        self.length = prompt.shape[1]
        self.history = torch.cat([prompt, prompt.new_zeros(len(prompt), max(limits))], 1)
        self.rows = torch.arange(len(limits), device=model.device)

    def add(self, tokens: "Tensor") -> list[int]:
        """Writes down the next token (B,) of each line, and lets lines go that have ended, once they are many.

        Out: the rows that a stop string has ended.
        """
        self.history[:, self.length] = self.last = tokens
        self.length, self.new = self.length + 1, self.new + 1
        self.unseen.append(tokens)
        stopped = self._stop(tokens) if self.stop else []
        at_limit = self.new in self.limits
        if at_limit or stopped or len(self.unseen) == self.look_every:
            self._look()
            left = sum(self.running)
            if 0 < left < len(self.running) and (at_limit or left <= SHRINK * len(self.running)):
                self._shrink()
        return stopped

    def read_last(self) -> None:
        """The model reads the last tokens; `logits` (B, V) are those of what follows."""
        self.logits = self.model.step(self.last[:, None], self.cache)

    def _look(self) -> None:
        """Finds out which lines still run; waits for the device."""
        import torch

        for place, token in enumerate(torch.cat(self.unseen).tolist()):  # step after step, all lines of each
            if token == EOS:
                self.running[place % len(self.running)] = False
        self.unseen.clear()
        for line, limit in enumerate(self.limits):
            if self.new >= limit:
                self.running[line] = False

    def _stop(self, tokens: "Tensor") -> list[int]:
        """Ends the lines whose stop string is complete; their rows."""
        assert self.stop
        stopped = []
        for line, (row, token) in enumerate(zip(self.rows.tolist(), tokens.tolist(), strict=True)):
            self.written[row].append(token)
            if self.running[line] and self.stop(row, self.written[row]):
                self.running[line] = False
                stopped.append(row)
        return stopped

    def _shrink(self) -> None:
        """Only the running lines stay."""
        import torch

        keep = torch.tensor(self.running, device=self.model.device).nonzero()[:, 0]
        self.cache.select(keep)
        self.history, self.rows, self.last = self.history[keep], self.rows[keep], self.last[keep]
        self.limits = [limit for limit, runs in zip(self.limits, self.running, strict=True) if runs]
        self.running = [True] * len(self.limits)


def cut(ids: list[int], nats: list[float], end: int, stopped: bool) -> Hypothesis:
    """The hypothesis in a row of ids and log-probabilities: up to its <EOS>, or to `end`, its stop string or limit."""
    by_eos = EOS in ids[:end]
    size = ids.index(EOS) + 1 if by_eos else end
    return Hypothesis(ids[:size], sum(nats[:size]), sum(nats[:size]), by_eos or stopped)
