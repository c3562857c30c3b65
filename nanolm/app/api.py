"""What programs can call, with gradio_client or plain HTTP: plain values in, plain values out.

In: the models. Out: the endpoints /write /look /tokens /runs. `run`: a name that /runs gives, empty: the page's first.
"""

import dataclasses

import gradio as gr

from nanolm.app.look import predictions
from nanolm.app.models import Models, checked_seed, checked_text, errors_as_messages, limited
from nanolm.app.tokens import token_texts
from nanolm.app.worker import interruptible
from nanolm.config import build
from nanolm.errors import ConfigError
from nanolm.generator import Generator
from nanolm.interpret import attention
from nanolm.text import normalise


def endpoints(models: Models) -> None:
    """Adds them to the page that is being laid out."""

    def chosen(run: object) -> Generator:
        return models.open(models.first if run == "" else run)

    async def write(prompt: str = "", decode: dict | None = None, seed: int | None = None, run: str = "") -> list[dict]:
        """What follows the prompt. decode: a strategy's name and settings, {"name": "beam", "num_beams": 5}."""
        with errors_as_messages():
            if not isinstance(decode, dict | None):
                raise ConfigError("decode: must be an object with name and settings")
            config = limited(build("decode", {"name": "sample", **(decode or {})}))
            prompts, number = [checked_text("prompt", prompt)], checked_seed(seed)
            [found] = await models.worker.call(
                lambda stop: interruptible(chosen(run), stop).complete(prompts, config, number)
            )
            return [{"text": one.text, **dataclasses.asdict(one)} for one in found]

    async def look(words: str, run: str = "") -> list[dict]:
        """For each token: token, logprob (nats), rank, and the likeliest in its place with their probabilities."""
        with errors_as_messages():
            generator = chosen(run)
            ids = attention.text_ids(generator, checked_text("words", words))
            return await models.worker.call(lambda _: predictions(generator, ids))

    def tokens(words: str, run: str = "") -> list[dict]:
        """The tokens of a text with their ids; 1 is <UNK>."""
        with errors_as_messages():
            tokenizer = chosen(run).tokenizer
            ids = tokenizer.encode(normalise(checked_text("words", words), tokenizer.normalise))
            return [{"id": i, "token": token} for i, token in zip(ids, token_texts(tokenizer, ids), strict=True)]

    def runs() -> list[str]:
        """The names of the runs that can be used, the newest first."""
        return list(models.names())

    for function in (write, look, tokens, runs):
        gr.api(function, concurrency_id="model")
