"""The tab Look inside: how likely each token of a text was, what the heads looked at, and the page of look.py.

In: a text, best one just written, with its ids. Out: three pages, each in a frame that can't reach this one.
"""

from collections.abc import Sequence
from html import escape
from math import exp
from threading import Event
from typing import Any

import gradio as gr
import torch
from gradio.components import Component

from nanolm.app.models import Models, checked_text, errors_as_messages
from nanolm.app.tokens import control_marks, token_texts
from nanolm.app.write import Text
from nanolm.generator import Generator
from nanolm.interpret import attention
from nanolm.interpret.heads import head_scores
from nanolm.interpret.inside import Inside
from nanolm.interpret.page import heads_section, look_page
from nanolm.model.fast.restore import is_rounded
from nanolm.text import counted
from nanolm.web.html import Html, frame, page, tag

TOP = 10  # of the likeliest tokens at each place
FULL = 10.0  # nats of the fullest colour


@torch.inference_mode()
def predictions(generator: Generator, ids: Sequence[int]) -> list[dict[str, Any]]:
    """For each token but the first: token, logprob (nats), rank, and the likeliest there as `top`: [(token, share)]."""
    model, shown, found = generator.model, generator.tokenizer.decode_token, []
    for token, hidden in zip(ids[1:], model(torch.tensor([ids[:-1]], device=model.device))[0], strict=True):
        logprobs = model.logits(hidden).log_softmax(-1)
        order = logprobs.argsort(descending=True, stable=True).tolist()
        top = [(shown(likely), float(logprobs[likely].exp())) for likely in order[:TOP]]
        rank = order.index(token) + 1
        found.append({"token": shown(token), "logprob": float(logprobs[token]), "rank": rank, "top": top})
    return found


def likelihood(generator: Generator, ids: Sequence[int]) -> str:
    """The page on which each token is coloured by its logprob, and shows what the model held likely in its place."""
    rows, buttons = predictions(generator, ids), []
    for row, words in zip(rows, token_texts(generator.tokenizer, ids)[1:], strict=True):
        buttons.append(tag("button", words, type="button", style=f"--s:{min(1.0, -row['logprob'] / FULL):.3f}"))
        row |= {"token": control_marks(row["token"]), "top": [(control_marks(token), p) for token, p in row["top"]]}
    nats = -sum(row["logprob"] for row in rows) / len(rows)
    title = "How likely each token was"
    head = f"{counted(len(rows), 'token')} of {nats:.2f} nats: as unsure as among {exp(nats):,.0f} equally likely ones."
    both = tag("div", tag("div", *buttons, id="text"), tag("div", id="view"), id="both")
    return page("likelihood", title, Html(tag("h1", title) + tag("p", head, id="legend") + both), rows)


def inside(generator: Generator, ids: Sequence[int]) -> str:
    """The page of look.py, but for what needs the run's data; a line where the weights are int8."""
    model = generator.model
    if is_rounded(model.state_dict()):
        return tag("p", "The weights are int8, which has no parts to look at; take the run that they came from.")
    found = Inside(model, generator.tokenizer, ids, lambda note: gr.Warning(escape(note)))
    sections = [*found.lenses(None), *found.shares(), heads_section(head_scores(model)), *found.words()]
    about = f"{attention.shape_of(model.config.nblocks, model.config.heads)}. python look.py shows more."
    return frame(look_page("Inside", about, sections), "inside")


def look_pages(models: Models, run: str, words: str, written: Sequence[Text]) -> tuple[str, str, str]:
    """The pages, framed; of a text that this run has just written exactly its ids."""
    with errors_as_messages():
        generator = models.open(run, lambda note: gr.Warning(escape(note)))
        known = {one.prompt + one.new: one.ids for one in written if one.run == run}
        ids = known.get(words, [])[: generator.model.context]
        ids = ids or attention.text_ids(generator, checked_text("text", words))
        if len(ids) < 2:
            return tag("p", "Nothing to look at yet: write something, or type a text above."), "", ""
        shown = ids[: attention.SHOWN]
        tokens = [generator.tokenizer.decode_token(token) for token in shown]
        with models.worker.turn(Event()):
            weights = attention.attention_weights(generator.model, shown)
            heads = attention.attention_page(tokens, weights, "What each head looks at")
            return frame(likelihood(generator, ids), "likelihood"), frame(heads, "attention"), inside(generator, ids)


def look_tab(models: Models, run: Component, written: gr.State, here: gr.Tab) -> None:
    """Lays the tab out; it looks at what was written last as soon as it is opened."""
    which = gr.Radio([], label="Written last", visible=False)
    words = gr.Textbox(label="Text", info="What was written last, or any other text.", max_lines=6)
    go = gr.Button("Look", variant="primary", elem_classes="look")
    pages = [gr.HTML(elem_classes="likelihood"), gr.HTML(elem_classes="attention"), gr.HTML(elem_classes="inside")]

    def last(written: Sequence[Text]) -> tuple[Any, Any]:
        choices = [(f"{place} {one.strategy}", place) for place, one in enumerate(written, 1)]
        return gr.Radio(choices, value=1, visible=len(choices) > 1), pick(1, written)

    def pick(place: int, written: Sequence[Text]) -> Any:
        return written[place - 1].prompt + written[place - 1].new if place <= len(written) else gr.skip()

    chosen = [here.select(last, written, [which, words]), which.input(pick, [which, written], words)]
    for event in (*(one.then for one in chosen), go.click, words.submit):
        event(lambda *values: look_pages(models, *values), [run, words, written], pages, concurrency_id="model")
