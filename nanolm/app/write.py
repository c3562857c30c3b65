"""The tab Write: what follows a prompt, as it is written; or under every strategy side by side.

In: a prompt, strategies as their controls stand. Out: cards of text; the texts, for the tab that looks inside.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any

import gradio as gr
from gradio.components import Component

from nanolm.app import controls
from nanolm.app.models import CHARACTERS, Models, checked_seed, checked_text, errors_as_messages, limited
from nanolm.app.worker import interruptible
from nanolm.config import options
from nanolm.decode.base import DecodeConfig
from nanolm.generator import Generator
from nanolm.text import counted
from nanolm.tokenizer.base import EOS
from nanolm.tokenizer.streaming import pieces
from nanolm.web.html import Html, tag


@dataclass
class Text:
    """One text of a run, as far as it is."""

    run: str
    strategy: str
    prompt: str
    ids: list[int]  # from <BOS> on
    read: int  # how many of them are the prompt's
    new: str = ""
    seconds: float = 0.0

    def card(self) -> Html:
        """The text, and how it was written."""
        size = len(self.ids) - self.read
        speed = f"{counted(size, 'token')} · {size / self.seconds:,.0f} tokens/s" if size else "…"
        end = " · ended with <EOS>" if self.ids[-1] == EOS else ""
        about = tag("small", tag("b", self.strategy), f" {speed}{end}")
        return tag("article", about, tag("p", tag("b", self.prompt), self.new))


def write(
    models: Models, run: str, prompt: str, configs: Iterable[DecodeConfig], seed: Any
) -> Iterator[tuple[str, list[Text]]]:
    """Cards and texts, again and again while they grow."""
    with errors_as_messages():
        texts, notes, number = list[Text](), dict[str, None](), checked_seed(seed)
        generator = models.open(run, lambda note: notes.update({note: None}))

        def shown() -> tuple[str, list[Text]]:
            for one in texts:
                one.new = "".join(pieces(generator.tokenizer, one.ids[: one.read], one.ids[one.read :]))
            told = [tag("p", note, class_="note") for note in notes]
            cards = tag("div", *(one.card() for one in texts), class_="cards")
            return tag("div", *told, cards, tag("small", f"seed {number}"), class_="nanolm"), texts

        for config in map(limited, configs):
            [(start, ids)] = generator.encode_prompts([checked_text("prompt", prompt)], config)
            new = [Text(run, config.name, start, [*ids], len(ids)) for _ in range(config.num_return_sequences)]
            texts += new
            yield shown()
            began = None
            for arrived in models.worker.stream(partial(_tokens, generator, config, ids, number)):
                for moment, (which, token) in arrived:
                    if token is None:
                        began = moment
                    else:
                        new[which].ids.append(token)
                        new[which].seconds = moment - (began or moment)
                yield shown()


def _tokens(
    generator: Generator, config: DecodeConfig, ids: list[int], seed: int, stop: Event
) -> Iterator[tuple[int, int | None]]:
    """(which, id) of every text as they are decided; the first one, without an id, says that the turn has come."""
    yield 0, None
    yield from interruptible(generator, stop).stream_ids(config, ids, seed)


def write_tab(models: Models, run: Component) -> gr.State:
    """Lays the tab out; the state holds the texts written last."""
    kinds, own, panels, written = options("decode"), dict[str, dict[str, Component]](), [], gr.State([])
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            hint = "The model goes on from here. Without a prompt it begins a new document."
            prompt = gr.Textbox(label="Prompt", info=hint, max_length=CHARACTERS, max_lines=4)
            with gr.Row():
                go = gr.Button("Write", variant="primary", min_width=70)
                every = gr.Button("All strategies", min_width=140)
                stop = gr.Button("Stop", min_width=70)
            output = gr.HTML()
        with gr.Column(scale=1, min_width=320):
            choice = gr.Radio(list(kinds), value="sample", label="Strategy")
            for name, cls in kinds.items():
                with gr.Row(visible=name == choice.value) as panel:
                    own[name] = controls.own_controls(cls)
                panels.append(panel)
            with gr.Accordion("More settings", open=False), gr.Row():
                shared = {name: controls.field_control(DecodeConfig, name) for name in controls.SHARED}
                hint = "equal seeds, equal texts"
                seed = gr.Textbox(label="seed", info=hint, placeholder="none: a new one each time")

    def one(values: dict[Component, Any], every: bool = False) -> Iterator[tuple[str, list[Text]]]:
        names = kinds if every else [values[choice]]
        configs = (controls.decode_config(name, shared | own[name], values) for name in names)
        alone = (replace(config, num_return_sequences=1) if every else config for config in configs)
        yield from write(models, values[run], values[prompt], alone, controls.control_value(values[seed]))

    choice.change(lambda name: [gr.Row(visible=name == kind) for kind in kinds], choice, panels, queue=False)
    inputs: Any = {run, prompt, choice, seed, *shared.values(), *(c for each in own.values() for c in each.values())}
    how: dict[str, Any] = {"outputs": [output, written], "show_progress": "hidden", "concurrency_id": "model"}
    writing = gr.on([go.click, prompt.submit], one, inputs, **how)
    stop.click(None, cancels=[writing, every.click(lambda values: (yield from one(values, True)), inputs, **how)])
    return written
