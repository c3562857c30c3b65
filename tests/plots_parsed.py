"""Plots and their derivations, for the tests of tinyplots."""

from functools import cache

from nanolm.data.tinyplots import plot
from nanolm.text import normalise


@cache
def plots(n: int) -> list[str]:
    return [plot(0, i) for i in range(n)]


@cache
def cleaned(n: int) -> list[str]:
    return [normalise(text, "clean") for text in plots(n)]
