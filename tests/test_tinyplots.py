"""tinyplots: its grammar, the exact probability of a plot, and documents drawn as they are asked for."""

import itertools
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from plots_parsed import cleaned, plots

from nanolm.data.grammar import Grammar, Option, Words, _settled, _words
from nanolm.data.tinyplots import TinyPlots, grammar, parse, plot, sources
from nanolm.errors import ConfigError
from nanolm.text import MODES, normalise

TOY = """
start:
  {name} finds {thing?the|a} {thing} [in {town}] and {how} sells it, {town?alas|as usual}.
  {<1?{she} drops a|never} {thing} (once|twice).
how:
  (well|badly|{<9?now|later})
[sex f]
name: Ann, Eve
she: she
thing: owl, cup
town: Rome, Oslo, Bern
[sex m]
name: Bob
she: he
thing: pen
town: Rome
"""


def every_text(toy: Grammar) -> Iterator[tuple[str, int]]:
    """Each text of a small grammar, and the product of the numbers of options behind it."""
    todo: list[list[int]] = [[]]
    while todo:
        script = todo.pop()
        sizes: list[int] = []

        def choose(n: int, script: list[int] = script, sizes: list[int] = sizes) -> int:
            sizes.append(n)
            return script[len(sizes) - 1] if len(sizes) <= len(script) else 0

        text = toy.write(choose)
        yield text, math.prod(sizes)
        for place in range(len(script), len(sizes)):  # what was 0 by default is tried otherwise
            todo += [[*script, *[0] * (place - len(script)), other] for other in range(1, sizes[place])]


def next_word_bits(text: str) -> list[float]:
    """-log2 P(word | the words before), the end last, from the mass of all half-told plots: no parse of the whole."""
    rules, bits = grammar(), list[float]()
    states: list[Any] = [(rules.start, {}, 1.0)]
    for at, word in enumerate([*_words(text), ""]):
        todo, after = states, list[Any]()
        while todo:
            rest, facts, p = todo.pop()
            if rest is None:
                after += [(None, facts, p)] * (word == "")
                continue
            node, rest = rest
            if type(node) is Words:
                if not node.words:
                    todo.append((rest, facts, p))
                elif node.words[0] == word:
                    after.append(((Words("", node.words[1:]), rest), facts, p))
            elif option := _settled(node, facts, at):
                todo.append((prepend(option, rest), facts, p))
            else:
                name, choice, rest = rules._open(node, rest, facts)
                for option in choice.options:
                    known = {**facts, name: option} if name else facts
                    todo.append((prepend(option, rest), known, p / len(choice.options)))
        mass = sum(p for _, _, p in after)
        bits.append(-math.log2(mass))
        states = [(rest, facts, p / mass) for rest, facts, p in after]
    return bits


def prepend(option: Option, rest: Any) -> Any:
    for node in reversed(option.nodes):
        rest = (node, rest)
    return rest


# The grammar


def test_the_probabilities_of_a_small_grammar_sum_to_one() -> None:
    toy = Grammar([TOY], "start")
    found = list(every_text(toy))
    assert len(found) == len({text for text, _ in found}) > 50
    assert sum(1 / ways for _, ways in found) == pytest.approx(1, abs=1e-12)
    for text, ways in found:
        (derivation,) = toy.parses(text)
        assert derivation.ways == ways
        assert toy.replay(derivation.choices) == text


def test_the_mean_of_sampled_bits_is_the_entropy() -> None:
    toy, draw = Grammar([TOY], "start"), random.Random("entropy").random
    entropy = sum(math.log2(ways) / ways for _, ways in every_text(toy))
    bits = [next(toy.parses(toy.write(lambda n: int(draw() * n)))).bits for _ in range(4000)]
    assert np.mean(bits) == pytest.approx(entropy, abs=4 * float(np.std(bits)) / math.sqrt(len(bits)))


@pytest.mark.parametrize("rule", ["then", "so", "last", "number", "logline"])
def test_the_probabilities_of_a_rule_of_plots_sum_to_one(rule: str) -> None:
    small = [re.sub(r"^(mood|lesson|food): (\w+), .*$", r"\1: \2", source, flags=re.M) for source in sources()]
    small = [re.sub(r"^thing:\n  \((\w+)\|.*$", r"thing:\n  \1", source, flags=re.M) for source in small]
    found = list(every_text(Grammar(small, rule)))
    assert len({text for text, _ in found}) == len(found)
    assert sum(1 / ways for _, ways in found) == pytest.approx(1, abs=1e-12)


def test_a_fact_is_remembered_and_a_rule_is_drawn_anew() -> None:
    toy = Grammar(["start:\n  {x} {x} {y} {y}\nx: p, q\ny:\n  (r|s)"], "start")
    assert {text for text, _ in every_text(toy)} == {f"{x} {y} {z}" for x in ("P p", "Q q") for y in "rs" for z in "rs"}


def test_articles_capitals_and_signs() -> None:
    toy = Grammar(["start:\n  a owl, {x}, sees an {y}. it is a {z}, {x}.\nx: an hour\ny: unicorn\nz: old one"], "start")
    assert toy.write(lambda n: 0) == "An owl, an hour, sees a unicorn. It is an old one, an hour."


def test_a_slot_that_nothing_fills_is_named() -> None:
    with pytest.raises(ValueError, match="what hat is"):
        Grammar(["start:\n  a {hat}"], "start")


# The floor


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [300, pytest.param(2_000, marks=pytest.mark.slow)])
def test_every_plot_has_exactly_one_derivation(n: int, mode: str) -> None:
    for i in range(n):
        draw, made = random.Random(f"0-{i}").random, list[tuple[int, int]]()

        def choose(size: int, draw: Any = draw, made: Any = made) -> int:
            made.append((size, int(draw() * size)))
            return int(made[-1][1])

        text = normalise(grammar().write(choose), mode)
        assert text == normalise(plot(0, i), mode)
        (found,) = grammar().parses(text)
        assert found == parse(text, mode)
        assert found.choices == tuple(choice for _, choice in made)
        assert found.ways == math.prod(size for size, _ in made)


def test_the_floor_is_what_the_best_next_word_model_pays() -> None:
    for text in cleaned(20):
        assert sum(next_word_bits(text)) == pytest.approx(TinyPlots().floor_bits(text), abs=1e-6)


def test_the_floor_of_what_is_no_plot_is_infinite() -> None:
    text = plots(1)[0]
    assert TinyPlots(normalise="none").floor_bits(text) == TinyPlots().floor_bits(normalise(text, "clean"))
    for other in (
        "",
        "the army general",
        normalise(text, "clean") + " .",
        normalise(text, "clean").replace(" a ", " an "),
    ):
        assert TinyPlots().floor_bits(other) == math.inf
    assert TinyPlots(normalise="none").floor_bits(text.lower()) == math.inf
    assert TinyPlots(maxlen=100).floor_bits(normalise(text, "clean")) is None


# The documents


def test_a_plot_is_the_same_in_every_process() -> None:
    code = "from nanolm.data.tinyplots import plot; print(plot(7, 3))"
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == plot(7, 3)
    assert len({plot(seed, i) for seed in range(3) for i in range(3)}) == 9


def test_documents_are_drawn_as_they_are_asked_for() -> None:
    counts: Counter[str] = Counter()
    drawn = list(itertools.islice(TinyPlots(plots=10**8, seed=4).documents(counts), 3))
    assert drawn == [plot(4, i) for i in range(3)]
    assert counts["read"] == 3
    assert len(list(TinyPlots(plots=5).documents(Counter()))) == 5


def test_the_signature_knows_config_and_grammar() -> None:
    assert TinyPlots().signature() == TinyPlots().signature() != TinyPlots(seed=1).signature()
    assert len(TinyPlots().signature()["grammar"]) == 16


def test_a_wrong_number_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.plots=0"):
        TinyPlots(plots=0)
