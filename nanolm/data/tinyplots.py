"""`data=tinyplots`: little movie plots from the project's own grammar, as many as you like, and their exact floor.

In: a number of documents and a seed. Out: plots of 40 to 120 words; document i of a seed is always the same text.
`parse` gives back the choices behind a plot, so the probability of every plot is known, and with it the bits that no
model can beat on average. The grammar itself is text: `plots/*.txt`.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Optional

from nanolm.config import between, knob, plain
from nanolm.data.base import DataConfig
from nanolm.data.grammar import Derivation, Grammar
from nanolm.files import fingerprint
from nanolm.text import normalise


@dataclass
class TinyPlots(DataConfig):
    """`plots`: how many; `seed`: which ones."""

    name: str = "tinyplots"
    plots: int = knob(20000, "how many")
    seed: int = knob(0, "which ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("data.plots", self.plots, 1, 10**8)
        between("data.seed", self.seed)

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """Plot 0, plot 1, ... of the seed."""
        for i in range(self.plots):
            counts["read"] += 1
            yield plot(self.seed, i)

    def signature(self) -> dict[str, Any]:
        """The config, and the grammar that it draws from."""
        return {**plain(self), "grammar": fingerprint(sources())}

    def floor_bits(self, text: str) -> Optional[float]:
        """-log2 P of a normalised plot and its end: inf for a text that isn't a plot.

        None where `maxlen` is set: the plots that it leaves out change the probability of those that stay.
        """
        if self.maxlen is not None:
            return None
        found = parse(text, self.normalise)
        return found.bits if found else float("inf")


@cache
def sources() -> list[str]:
    """The texts of the grammar, in the order of their files' names."""
    return [file.read_text("utf-8") for file in sorted(Path(__file__).with_name("plots").glob("*.txt"))]


@cache
def grammar() -> Grammar:
    """The grammar of plots."""
    return Grammar(sources(), "plot")


def plot(seed: int, i: int) -> str:
    """Document i of a seed."""
    draw = random.Random(f"{seed}-{i}").random  # of a string: the same on every version of Python
    return grammar().write(lambda n: int(draw() * n))


def parse(text: str, mode: str) -> Optional[Derivation]:
    """The choices behind a plot normalised by `mode`; None for a text that isn't one."""
    for found in grammar().parses(text):
        if normalise(grammar().replay(found.choices), mode) == text:
            return found
    return None
