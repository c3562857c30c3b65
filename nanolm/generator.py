"""From a prompt to text: a run's tokenizer, its model and a decoding strategy put together.

In: prompts as a user types them. Out: text, at once or piece by piece. Knows no config files and no training.
The prompt is normalised as the run's data were, and <BOS> is put before it, so the empty prompt starts a document.
Its unknown words are read as <UNK>, and the user is told. A prompt longer than the context keeps <BOS> and its last
tokens, and the user is told; text ends with <EOS>, after max_new_tokens, or where the context is full.
"""

import itertools
import secrets
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch

from nanolm.config import between, one_of
from nanolm.decode.base import DecodeConfig, Hypothesis
from nanolm.decode.strategy import strategy
from nanolm.decode.windows import decode_windows, last_window, stream_windows
from nanolm.model.transformer import Transformer
from nanolm.runs.load import load_for_writing
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, Tokenizer
from nanolm.tokenizer.streaming import pieces, stops_at

ROWS = {"cpu": 64, "cuda": 512}  # of one batch (prompts times beams or samples): more take memory and gain little


def say(line: str) -> None:
    """Tells the user something that is not the text: one line on stderr."""
    print(line, file=sys.stderr)


@dataclass
class Generation:
    """One continuation of one prompt."""

    prompt: str  # normalised
    continuation: str
    ids: list[int]  # of the continuation; the last is <EOS> where finished
    tokens: list[str]  # the text of each id
    logprob: float  # nats of `ids` under the model, no filter applied
    score: float  # what ranked it among its siblings
    finished: bool  # by <EOS> or a stop string, not by the limit

    @property
    def text(self) -> str:
        """The prompt and its continuation."""
        return self.prompt + self.continuation


class Generator:
    """Writes with one model. `tell` is called with each line that the user should know; default: to stderr."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, run: Optional[Path] = None, tell: Callable[[str], None] = say
    ) -> None:
        self.model, self.tokenizer, self.run, self.tell = model.eval(), tokenizer, run, tell

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        decode: str | DecodeConfig | None = None,
        seed: int | None = None,
        **fields: Any,
    ) -> Any:
        """Text that begins with the (normalised) prompt: a str, or a list where num_return_sequences is above 1.

        For a list of prompts, a list of those. `decode`, `seed` and `fields`: see `complete`.
        """
        config = strategy(decode, fields)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        texts = [[one.text for one in found] for found in self.complete(prompts, config, seed)]
        results = texts if config.num_return_sequences > 1 else [found[0] for found in texts]
        return results[0] if isinstance(prompt, str) else results

    @torch.inference_mode()
    def complete(
        self, prompts: Sequence[str], decode: str | DecodeConfig | None = None, seed: int | None = None, **fields: Any
    ) -> list[list[Generation]]:
        """For each prompt its num_return_sequences continuations, the best first.

        decode: greedy, beam, sample or a config; None: the strategy that has the `fields`, sample if it does.
        seed: equal seeds give equal text, whatever else is in the batch; None: a new one. Raises ConfigError.
        """
        config, seed = strategy(decode, fields), pick_seed(seed)
        read = self.encode_prompts(prompts, config)
        order = sorted(range(len(read)), key=lambda i: len(read[i][1]))  # near lengths together: little padding
        size = max(1, ROWS.get(self.model.device.type, 64) // config.rows_per_prompt)
        done: dict[int, list[Generation]] = {}
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            seeds, ids = [(seed, i) for i in chunk], [read[i][1] for i in chunk]
            stop = stops_at(self.tokenizer, ids, config.stop)
            found = decode_windows(config, self.model, ids, self.model.context, seeds, stop)
            done |= {i: [self._generation(*read[i], one) for one in each] for i, each in zip(chunk, found, strict=True)}
        self._tell_full(config, [len(one.ids) for found in done.values() for one in found if not one.finished])
        return [done[i] for i in range(len(read))]

    def stream(
        self,
        prompt: str = "",
        decode: str | DecodeConfig | None = None,
        seed: int | None = None,
        full: bool = False,
        on_token: Callable[[int], object] = lambda token: None,
        **fields: Any,
    ) -> Iterator[str]:
        """The continuation in pieces, as soon as they are decided (by beam search: at the end).

        Together they are what `complete` gives with the same seed. full: the normalised prompt is the first piece.
        on_token: told each id. Raises ConfigError.
        """
        config = strategy(decode, fields)
        one_of("decode.num_return_sequences", config.num_return_sequences, [1])
        [(text, ids)] = self.encode_prompts([prompt], config)
        decided = self.stream_ids(config, ids, pick_seed(seed))

        def tokens() -> Iterator[int]:
            for _, token in decided:
                on_token(token)
                yield token

        return itertools.chain([text] if full else [], pieces(self.tokenizer, ids, tokens()))

    @torch.inference_mode()
    def stream_ids(self, config: DecodeConfig, ids: list[int], seed: int) -> Iterator[tuple[int, int]]:
        """(which, id) of every continuation of a prompt of `encode_prompts`, as soon as they are decided."""
        written: dict[int, list[int]] = defaultdict(list)
        stop = stops_at(self.tokenizer, [ids], config.stop)
        for which, token in stream_windows(config, self.model, ids, self.model.context, (seed, 0), stop):
            written[which].append(token)
            yield which, token
        unfinished = [new for new in written.values() if new[-1] != EOS and not (stop and stop(0, new))]
        self._tell_full(config, list(map(len, unfinished)))

    def encode_prompts(self, prompts: Sequence[str], config: DecodeConfig) -> list[tuple[str, list[int]]]:
        """Of each prompt the normalised text, and its ids as the model gets them: with <BOS>, cut to leave room."""
        texts = [normalise(prompt, self.tokenizer.normalise) for prompt in prompts]
        encoded, context = self.tokenizer.encode_batch(texts), self.model.context
        self._tell_of_prompts(texts, encoded)
        self._tell_of_stop_strings(config)
        read = []
        for text, ids in zip(texts, encoded, strict=True):
            fits = len(ids) < context
            read.append((text, [BOS, *ids] if fits else last_window(ids, context, config.max_new_tokens)))
        longest = max(encoded, key=len, default=[])
        if len(longest) >= context:
            kept = len(last_window(longest, context, config.max_new_tokens)) - 1  # without <BOS>
            self.tell(f"prompt of {len(longest)} tokens: only its last {kept} are read, the context is {context}")
        return read

    def _tell_of_prompts(self, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> None:
        if unknown := list(dict.fromkeys(piece for text in texts for piece in self.tokenizer.unknown(text))):
            names = ", ".join(repr(piece[:40]) for piece in unknown[:10])
            if len(unknown) > 10:
                names += ", ..."
            self.tell(f"not in this run's vocabulary, read as <UNK>: {names}")
        if any(self._ends_with_half_a_word(text, ids) for text, ids in zip(texts, encoded, strict=True)):
            self.tell("a blank at a prompt's end: here it is the first sign of the next word's token; leave it out")

    def _ends_with_half_a_word(self, text: str, ids: Sequence[int]) -> bool:
        """Whether the text ends with a blank that the tokenizer would have put into the next word's token."""
        return text[-1:].isspace() and self.tokenizer.encode(text + "a")[: len(ids)] != list(ids)

    def _tell_of_stop_strings(self, config: DecodeConfig) -> None:
        for one in config.stop:
            usual = normalise(one, self.tokenizer.normalise)
            if one.strip() != usual:
                mode = f"data.normalise={self.tokenizer.normalise}"
                self.tell(f"decode.stop: {one!r} is never in the text of this run ({mode}); {usual!r} may be")

    def _tell_full(self, config: DecodeConfig, sizes: Sequence[int]) -> None:
        """Says that texts of these sizes, which didn't finish, were ended by the context before max_new_tokens."""
        wanted = config.max_new_tokens
        if wanted and sizes and min(sizes) < wanted:
            end = f"the context of {self.model.context} was full after {min(sizes)} new tokens"
            self.tell(f"decode.max_new_tokens={wanted}: {end}; decode.overflow=slide goes on")

    def _generation(self, prompt: str, ids: list[int], found: Hypothesis) -> Generation:
        continuation = "".join(pieces(self.tokenizer, ids, found.ids))
        tokens = [self.tokenizer.decode_token(token) for token in found.ids]
        return Generation(prompt, continuation, found.ids, tokens, found.logprob, found.score, found.finished)


def load(run: str | Path = "latest", outputs: str | Path = "outputs", **how: Any) -> Generator:
    """A Generator over a run: `latest`, `best`, or a run folder under `outputs` or anywhere.

    how: `which` weights (best, last), `device`, `precision`, `quantize` and `recorded`, as
    `runs.load.load_for_writing` takes them. Raises NanolmError.
    """
    loaded = load_for_writing(run, outputs, **how)
    return Generator(loaded.model, loaded.tokenizer, loaded.run.folder)


def pick_seed(seed: int | None) -> int:
    """The seed, or a new one where there is none."""
    between("seed", seed, 0)
    return secrets.randbits(63) if seed is None else seed
