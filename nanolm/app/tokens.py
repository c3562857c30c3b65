"""The tab Tokens: any text through the run's tokenizer. In: a text. Out: its tokens, coloured, with their ids."""

from collections.abc import Sequence
from itertools import pairwise

import gradio as gr
from gradio.components import Component

from nanolm.app.models import CHARACTERS, Models, checked_text, errors_as_messages
from nanolm.text import counted, normalise
from nanolm.tokenizer.base import SPECIALS, UNK, Tokenizer
from nanolm.web.html import Html, tag

EXAMPLE = "The army general isn't sent to Xyzzy, but his dog is!"
COLOURS = 6
SHOWN = {code: "↵\n" if code == 10 else chr(0x2400 + code) for code in range(32)} | {127: "␡"}


def control_marks(words: str) -> str:
    """Control characters as their pictures; where a space stands at an end, spaces as marks."""
    words = words.translate(SHOWN)
    return words.replace(" ", "␣") if words.strip() != words else words


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text, with the space before it where it brings one; special tokens by their names."""
    found = [tokenizer.decode_token(token) for token in ids]
    for place, (before, token) in enumerate(pairwise(ids), 1):
        if token >= len(SPECIALS):
            found[place] = tokenizer.decode([before, token])[len(tokenizer.decode([before])) :] or found[place]
    return [words.translate(SHOWN) for words in found]


def token_chips(tokenizer: Tokenizer, words: str) -> Html:
    """The tokens of a raw text, each with its id; what is not in the vocabulary is marked."""
    plain = normalise(words, tokenizer.normalise)
    ids, unknown, found = tokenizer.encode(plain), iter(tokenizer.unknown(plain)), []
    for place, (token, shown) in enumerate(zip(ids, token_texts(tokenizer, ids), strict=True)):
        kind, shown = (f"c{place % COLOURS}", shown) if token != UNK else ("unknown", f"{next(unknown)} <UNK>")
        found.append(tag("span", shown, tag("small", str(token)), class_=kind))
    size = f"{counted(len(plain), 'character')} (normalised: {tokenizer.normalise})"
    count = f"{size}, {counted(len(ids), 'token')}, {ids.count(UNK)} unknown"
    return tag("div", tag("p", *found, class_="chips"), tag("small", count), class_="nanolm")


def tokens_tab(models: Models, run: Component, here: gr.Tab) -> None:
    """Lays the tab out; the tokens follow the typing."""
    words = gr.Textbox(EXAMPLE, label="Text", lines=3, max_lines=12, max_length=CHARACTERS)
    output = gr.HTML()

    def show(run: str, words: str) -> str:
        with errors_as_messages():
            return token_chips(models.open(run).tokenizer, checked_text("text", words))

    gr.on([words.input, here.select], show, [run, words], output, show_progress="hidden", trigger_mode="always_last")
