"""Beyond the context: with overflow=slide a text goes on from its last tokens, window after window.

In: a strategy, prompts as ids. Out: hypotheses of any length, or of at most one context with overflow=stop. Each window
is decoded by itself: the strategy's filters and beams know only what is in it. Knows no text.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Optional

from nanolm.decode.base import DecodeConfig, Hypothesis, Ids, Stepper, Stop
from nanolm.tokenizer.base import BOS, EOS


def last_window(ids: Sequence[int], context: int, new: Optional[int]) -> list[int]:
    """<BOS> and the last tokens of a text, with room for `new` ones, but for a quarter of the context at the most."""
    room = max(1, min(new or context, context // 4))
    return [BOS, *ids[-(context - room) :]]


def decode_windows(
    config: DecodeConfig, model: Stepper, prompts: Ids, context: int, seeds: Ids, stop: Optional[Stop] = None
) -> list[list[Hypothesis]]:
    """See DecodeConfig.decode; with overflow=slide a hypothesis has `max_new_tokens` ids unless it finishes."""
    found = config.decode(model, prompts, context, seeds, stop)
    window = 0
    while places := _unfinished(config, found):
        window += 1
        for size, group in places.items():  # they have equally many tokens, so equally many to come
            rest = _rest(config, size)
            texts = [[*prompts[i], *found[i][j].ids] for i, j in group]
            windows = [last_window(text, context, rest.max_new_tokens) for text in texts]
            own_seeds = [(*seeds[i], j, window) for i, j in group]
            more = rest.decode(model, windows, context, own_seeds, stop and _after(stop, group, found))
            for (i, j), (one, *_) in zip(group, more, strict=True):
                found[i][j] = _joined(found[i][j], one)
    return found


def stream_windows(
    config: DecodeConfig,
    model: Stepper,
    prompt: Sequence[int],
    context: int,
    seed: Sequence[int],
    stop: Optional[Stop] = None,
) -> Iterator[tuple[int, int]]:
    """See DecodeConfig.stream: what `decode_windows` gives. Beyond the context, one hypothesis after the other."""
    written: dict[int, list[int]] = defaultdict(list)
    for which, token in config.stream(model, prompt, context, seed, stop):
        written[which].append(token)
        yield which, token
    if config.overflow != "slide" or config.max_new_tokens is None:
        return
    for which, ids in sorted(written.items()):
        window = 0
        while len(ids) < config.max_new_tokens and ids[-1] != EOS and not (stop and stop(0, ids)):
            window += 1
            rest = _rest(config, len(ids))
            start = last_window([*prompt, *ids], context, rest.max_new_tokens)
            so_far = Hypothesis([*ids], 0.0, 0.0, False)
            after = stop and _after(stop, [(0, 0)], [[so_far]])
            for _, token in rest.stream(model, start, context, (*seed, which, window), after):
                ids.append(token)
                yield which, token


def _unfinished(config: DecodeConfig, found: list[list[Hypothesis]]) -> dict[int, list[tuple[int, int]]]:
    """By their number of ids, the hypotheses that are to go on: (prompt, place among its hypotheses)."""
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    if config.overflow != "slide" or config.max_new_tokens is None:
        return places
    for i, hypotheses in enumerate(found):
        for j, one in enumerate(hypotheses):
            if not one.finished and len(one.ids) < config.max_new_tokens:
                places[len(one.ids)].append((i, j))
    return places


def _rest(config: DecodeConfig, size: int) -> DecodeConfig:
    """What is left to do for a hypothesis of `size` ids."""
    assert config.max_new_tokens is not None
    least = max(0, config.min_new_tokens - size)
    return replace(config, max_new_tokens=config.max_new_tokens - size, min_new_tokens=least, num_return_sequences=1)


def _after(stop: Stop, group: Sequence[tuple[int, int]], found: list[list[Hypothesis]]) -> Stop:
    """`stop` for the windows of `group`, asked with the ids of the windows before."""
    before = [(i, found[i][j].ids) for i, j in group]
    return lambda row, new: stop(before[row][0], [*before[row][1], *new])


def _joined(first: Hypothesis, second: Hypothesis) -> Hypothesis:
    logprob, score = first.logprob + second.logprob, first.score + second.score
    return Hypothesis([*first.ids, *second.ids], logprob, score, second.finished)
