"""Run folders with untrained models, made in no time: what the tests of later verbs need of a run."""

from pathlib import Path
from typing import Any

import torch
from tiny_run import tiny_config

from nanolm.config import build, plain
from nanolm.files import write_json
from nanolm.model.transformer import Transformer
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights
from nanolm.text import normalise
from nanolm.tokenizer.base import Tokenizer

TEXTS = [
    "The army general is sent to the front. He falls in love with a spy!",
    "A dog and a dragon fight over a river of gold; the naïve dog wins (1964).",
    "Two sisters open a café in a quiet town by the sea, and the sea comes in …",
]


def tokenizer(name: str = "word", mode: str = "clean") -> Tokenizer:
    """One of each kind, fitted on TEXTS."""
    config = {"name": name} | ({"vocab_size": 300} if name == "bpe" else {})
    return build("tokenizer", config).fit([normalise(text, mode) for text in TEXTS] * 3, mode)


def run(folder: Path, words: Tokenizer | None = None, seed: int = 0, **model: Any) -> Run:
    """A finished run under folder/out, its weights random and large enough to have opinions."""
    torch.manual_seed(seed)
    words = words or tokenizer()
    config = tiny_config(folder, model={"context": 24} | model)
    network = Transformer(config.model, len(words), 24)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(1.0, 0.2) if "norm" in name else weight.normal_(0, 0.3)
    made = Run.create(folder / "out" / "run", plain(config), {}, {"tokenizer.json": words.save})
    write_weights(made.folder / BEST, network.state_dict(), {})
    scores = {"val_bpb": 1.25, "test_bpb": 1.5, "val_floor": None, "parameters": network.summary()}
    write_json(made.folder / "status.json", {"state": "finished", "vocabulary": len(words)} | scores)
    return made
