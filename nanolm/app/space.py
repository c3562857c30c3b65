"""The page of an exported Space: a prompt, a strategy, the text as it is written. Also an API: `/write`.

In: the folder that `export.py format=space` wrote: model.json, model.safetensors, tokenizer.json. Knows no runs. Inputs
are limited, the queue too; nothing is fetched from elsewhere.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from nanolm.app.worker import Worker, interruptible
from nanolm.config import fill
from nanolm.errors import NanolmError
from nanolm.files import read_json
from nanolm.generator import Generator
from nanolm.model.config import ModelConfig
from nanolm.model.fast.recorded import ready_to_write
from nanolm.model.fast.restore import restored
from nanolm.runs.weights import read_weights
from nanolm.tokenizer.base import load_tokenizer

LONGEST = 2000  # characters of a prompt
WAITING = 20  # who comes later is told that it is busy
STRATEGIES = ["sample", "greedy", "beam"]


def launch(folder: str | Path = ".") -> None:
    """Starts the page of a Space's folder, and stays."""
    build_space(load_space(Path(folder))).queue(max_size=WAITING, default_concurrency_limit=1).launch(ssr_mode=False)


def load_space(folder: Path) -> Generator:
    """The model in the folder; NanolmError where a file is missing or damaged."""
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    config = fill(ModelConfig, read_json(folder / "model.json"), "model")
    path = folder / "model.safetensors"
    model = restored(path, config, tokenizer.vocabulary, read_weights(path)[0])
    ready_to_write(model)
    return Generator(model, tokenizer, tell=lambda line: gr.Info(escape(line)))


def build_space(writer: Generator) -> gr.Blocks:
    """The page over one model."""
    worker = Worker()

    def write(prompt: str, strategy: str, temperature: float, tokens: int) -> Iterator[str]:
        fields: dict[str, Any] = {"max_new_tokens": int(tokens)}
        if strategy == "sample":
            fields["temperature"] = temperature
        text = ""
        try:
            for arrived in worker.stream(
                lambda stop: interruptible(writer, stop).stream(prompt[:LONGEST], strategy, full=True, **fields)
            ):
                text += "".join(piece for _, piece in arrived)
                yield text
        except NanolmError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    with gr.Blocks(title="nanolm", analytics_enabled=False) as made:
        gr.Markdown("A small language model. It goes on with your text; what it writes is made up.")
        prompt = gr.Textbox(label="Beginning", placeholder="empty: it begins by itself", max_length=LONGEST)
        with gr.Row():
            strategy = gr.Radio(STRATEGIES, value="sample", label="Strategy")
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature (sample)")
            tokens = gr.Slider(1, writer.model.context, min(100, writer.model.context), step=1, label="Tokens at most")
        with gr.Row():
            start, stop = gr.Button("Write", variant="primary"), gr.Button("Stop")
        text = gr.Textbox(label="Text", lines=8)
        triggers = [start.click, prompt.submit]
        event = gr.on(triggers, write, [prompt, strategy, temperature, tokens], text, api_name="write")
        stop.click(None, cancels=[event])
    return made
