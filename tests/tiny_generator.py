"""Generators with first weights, for the tests of writing."""

from typing import Any

import torch

from nanolm.config import build, fill
from nanolm.generator import Generator
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.text import normalise
from nanolm.tokenizer.base import Tokenizer

PROMPTS = ["the army general", "", "a dog and a dragon fight over a river", "dog", "the sea"]
TEXTS = [
    "the army general is sent to the front . he falls in love with a spy",
    "a dog and a dragon fight over a river of gold . the naïve dog wins",
    "two sisters open a café in a quiet town by the sea , and the sea comes in …",
]


def tokenizer(name: str = "word", mode: str = "clean") -> Tokenizer:
    config = {"name": name} | ({"vocab_size": 300} if name == "bpe" else {})
    return build("tokenizer", config).fit([normalise(text, mode) for text in TEXTS] * 3, mode)


def generator(name: str = "word", mode: str = "clean", context: int = 24, **model: Any) -> Generator:
    torch.manual_seed(0)
    config = fill(ModelConfig, {"dims": 16, "heads": 2, "nblocks": 2, "tied": False} | model, "model")
    words, lines = tokenizer(name, mode), list[str]()
    network = Transformer(config, len(words), context)
    if network.ngrams is not None:
        torch.nn.init.normal_(network.ngrams.tables)
    with torch.no_grad():
        network.output_weight.normal_(0, 0.5)  # as it starts, all tokens are as likely as each other
    made = Generator(network, words, tell=lines.append)
    made.told = lines  # type: ignore[attr-defined]
    return made


def told(made: Generator) -> list[str]:
    return made.told  # type: ignore[attr-defined, no-any-return]
