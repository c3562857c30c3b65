"""Text while it is being written: what each new token adds, and whether a stop string is complete.

In: a tokenizer, the ids of a prompt and those after it. Out: pieces of text. Knows no model and no decoding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Optional

from nanolm.tokenizer.base import Tokenizer

HALF = "\ufffd"  # what the first bytes of a character decode to


def pieces(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """What each token adds to the text after `prompt`, as soon as that is certain: characters are never cut.

    Each piece is decoded behind the tokens of the one before, since a word's space depends on it.
    """
    before, waiting = list(prompt[-1:]), list[int]()
    for token in tokens:
        waiting.append(token)
        piece = added_text(tokenizer, before, waiting)
        if piece and not piece.endswith(HALF):
            yield piece
            before, waiting = waiting, []
    if waiting and (rest := added_text(tokenizer, before, waiting)):
        yield rest


def added_text(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
    """The text that `ids` add to that of `before`."""
    return tokenizer.decode(before + ids)[len(tokenizer.decode(before)) :]


def stops_at(
    tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], strings: Sequence[str]
) -> Optional[Callable[[int, Sequence[int]], bool]]:
    """(which prompt, new ids) -> whether the last of them completes one of the strings; None without strings.

    As stop_strings in transformers: the string may end inside the last token. One that begins in the prompt doesn't
    count.
    """
    if not strings:
        return None
    size = max(map(len, strings)) + 8  # tokens: each adds a character, but for the first bytes of one

    def stop(which: int, new: Sequence[int]) -> bool:
        before, *tail = [*prompts[which][-1:], *new][-size - 1 :]
        text = added_text(tokenizer, [before], tail)
        known = added_text(tokenizer, [before], tail[:-1]).rstrip(HALF)
        return any(text.find(string, max(0, len(known) + 1 - len(string))) >= 0 for string in strings)

    return stop
