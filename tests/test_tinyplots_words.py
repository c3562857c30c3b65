"""The plots of tinyplots: many, of bounded length, in good English."""

import itertools
import math
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from plots_parsed import cleaned, plots

from nanolm.data.grammar import Ask, Choice, Derivation, Slot, Words
from nanolm.data.tinyplots import TinyPlots, grammar, parse, plot, sources
from nanolm.scoring.baselines import KneserNey
from nanolm.text import normalise

FUNCTION_WORDS = re.findall(
    r"\w+",
    """a an the and or but nor of in on at to from by with for as than into over under behind between out up off down
    through until he she it they we you him her his its them their himself herself who whom whose which that this these
    those what when where while if so too not no never nobody nothing one is are was were be been being has have had do
    does did will would may can must than then there here all only even still just very more most such each every
    another both half own""",
)


# The English


def test_there_are_genres_and_arcs() -> None:
    assert len(grammar().slots["genre"].table[""].options) >= 8
    assert len(grammar().slots["arc"].table[""].options) >= 12
    for slot in grammar().slots.values():
        tables = {frozenset(other.table) for other in grammar().slots.values() if other.key == slot.key}
        assert len(tables) == 1, f"{slot.name}: not said for every {slot.key}"


def test_length_is_bounded_by_construction() -> None:
    """Over all derivations: no plot is rejected for its length. Words with and without the full stops."""
    spans = lengths((grammar().slots["plot"],), {frozenset(): (0, 0)})
    rules = re.findall(r"^(\w+):|^  .*\{<", "\n".join(sources()), re.M)
    assert {before for before, here in itertools.pairwise(rules) if not here} <= {"plot", "close", "more", ""}
    least, most = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
    assert 40 + 8 <= least <= most <= 120
    assert all(48 <= len(text.split()) <= 120 and text.count(".") <= 8 for text in cleaned(1000))


Spans = dict[frozenset[str], tuple[int, int]]  # known facts -> least and most words said so far


def lengths(nodes: tuple[object, ...], spans: Spans) -> Spans:
    for node in nodes:
        found: Spans = {}
        for known, (low, high) in spans.items():
            for facts, least, most in lengths_of(node, known, low, high):
                other = found.get(facts, (least, most))
                found[facts] = (min(least, other[0]), max(most, other[1]))
        spans = found
    return spans


@cache
def lengths_anywhere(name: str, known: frozenset[str]) -> Spans:
    return lengths((grammar().slots[name],), {known: (0, 0)})


def lengths_of(node: object, known: frozenset[str], low: int, high: int) -> list[tuple[frozenset[str], int, int]]:
    if isinstance(node, Words):
        return [(known, low + len(node.words), high + len(node.words))]
    if isinstance(node, Ask) and node.room:
        parts = [(node.yes, low, min(high, node.room - 1)), (node.no, max(low, node.room), high)]
    elif isinstance(node, Ask):
        parts = [(node.yes if node.name in known else node.no, low, high)]
    elif isinstance(node, Choice):
        parts = [(option, low, high) for option in node.options]
    else:
        assert isinstance(node, Slot)
        if high and node.name not in ("plot", "close", "more"):  # only these ask for room: others are the same anywhere
            return [
                (facts, low + least, high + most) for facts, (least, most) in lengths_anywhere(node.name, known).items()
            ]
        known |= {node.name} & {"villain", "pal", "object", "craft"}  # the facts that a test asks for
        options = [option for choice in node.table.values() for option in choice.options]
        if all(len(option.nodes) == 1 and isinstance(option.nodes[0], Words) for option in options):
            options.sort(key=lambda option: len(option.nodes[0].words))
            options = [options[0], options[-1]]
        parts = [(option, low, high) for option in options]
    return [
        (facts, *span)
        for option, least, most in parts
        if least <= most
        for facts, span in lengths(option.nodes, {known: (least, most)}).items()
    ]


@pytest.mark.parametrize("n", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_words_and_skeletons_are_many(n: int) -> None:
    words = Counter(word for text in cleaned(n) for word in text.split())
    skeletons = Counter(
        " ".join(word if word in FUNCTION_WORDS else "_" for word in sentence.split())
        for text in cleaned(n)
        for sentence in text.removesuffix(" .").split(" . ")
    )
    assert len(words) >= 3000
    assert len(skeletons) >= 2000
    assert max(skeletons.values()) <= 0.01 * skeletons.total()
    assert n < 10_000 or min(words.values()) >= 5


def test_english() -> None:
    for text in plots(1000):
        assert re.fullmatch(r"[A-Za-z ,.:?]+", text)
        assert not re.search(r"[,.:?] ?[,.:?]|[,.:?][A-Za-z]|  | $|^ | [,.:?]", text)
        assert all(sentence[0].isupper() for sentence in re.split(r"(?<=[.?]) ", text))
        assert not re.search(r"\b[Aa] [aeio](?!ne\b|nce\b)|\b[Aa]n [^aeiouhAEIOUH]|\b(\w+) \1\b(?<!that that)", text)
        pronouns = set(re.findall(r"\b(she|he|her|his|him|herself|himself)\b", text.lower()))
        assert not (pronouns & {"she", "her", "herself"} and pronouns & {"he", "his", "him", "himself"})


def test_nobody_shares_a_name() -> None:
    tables = [grammar().slots[pool].table for pool in ("woman", "man", "pal", "villain", "surname", "town")]
    names = Counter(option.text for table in tables for choice in table.values() for option in choice.options)
    assert max(names.values()) == 1, names.most_common(3)


# Telling models apart


class Encoded:
    def __init__(self, texts: list[str], table: dict[str, int]) -> None:
        rows = [[2, *(table.get(word, 1) for word in text.split()), 3] for text in texts]
        self.ids = np.array([token for row in rows for token in row])
        self.offsets = np.cumsum([0, *map(len, rows)])


@pytest.mark.parametrize("n", [3000, pytest.param(18_000, marks=pytest.mark.slow)])
def test_a_5_gram_stays_far_above_the_floor(n: int) -> None:
    texts, held_out = cleaned(n), [normalise(plot(1, i), "clean") for i in range(300)]
    table = {word: i for i, word in enumerate(dict.fromkeys(" ".join(texts).split()), start=4)}
    model = KneserNey(Encoded(texts, table), len(table) + 4, order=5)  # type: ignore[arg-type]
    bits = model.nats(Encoded(held_out, table)).sum() / math.log(2)  # type: ignore[arg-type]
    floor = sum(TinyPlots().floor_bits(text) or math.inf for text in held_out)
    assert bits > 1.75 * floor  # in bits per byte too: the bytes are the same


def test_a_derivation_tells_the_facts() -> None:
    found = parse(cleaned(1)[0], "clean")
    assert isinstance(found, Derivation)
    assert {"genre", "arc", "town", "job"} <= set(found.facts)
