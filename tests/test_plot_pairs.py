"""tinyplots' own pairs: what is called wrong can't be written, and odds are those at which plots are really drawn."""

import math
import random
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import untrained
from test_tinyplots import TOY

from nanolm.cli import benchmark as verb
from nanolm.data import plot_pairs
from nanolm.data.grammar import Grammar
from nanolm.data.plot_pairs import Plot, PlotPair, pair_kinds
from nanolm.data.tinyplots import grammar, parse, plot
from nanolm.errors import ConfigError
from nanolm.scoring.speller import Speller
from nanolm.text import normalise


@pytest.fixture(scope="module")
def pairs() -> list[PlotPair]:
    """Two of each kind; a few are rare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_pairs, "PLOTS", 60)
        return plot_pairs.plot_pairs(2)


def test_there_are_pairs_of_many_kinds(pairs: list[PlotPair]) -> None:
    found = Counter((pair.field, pair.kind) for pair in pairs)
    assert len(pair_kinds()) >= 25
    assert len(found) >= len(pair_kinds()) - 2
    assert set(found.values()) <= {1, 2}
    assert len({kind for _, kind in pair_kinds()}) == len(pair_kinds())  # a kind's name says which


def test_bits_are_the_grammars(pairs: list[PlotPair]) -> None:
    for pair in pairs:
        for text, bits in ((pair.good, pair.good_bits), (pair.bad, pair.bad_bits)):
            found = parse(text, "clean")
            assert bits == (found.bits if found else math.inf)
        assert pair.good_bits < pair.bad_bits
        assert math.isfinite(pair.bad_bits) == (pair.field == "odds")


def test_a_pair_differs_in_one_thing(pairs: list[PlotPair]) -> None:
    same_length = {"agreement", "memory"}
    for pair in pairs:
        good, bad = pair.good.split(), pair.bad.split()
        if pair.field in same_length:
            assert len(good) == len(bad)
            assert sum(a != b for a, b in zip(good, bad, strict=True)) <= (9 if pair.kind == "name" else 3)
        elif pair.field == "order":
            assert sorted(good) == sorted(bad)


def test_no_seed_writes_the_plots_of_the_pairs() -> None:
    drawn = {normalise(plot(seed, i), "clean") for seed in range(4) for i in range(20)}
    assert not drawn & {Plot(i).text for i in range(20)}
    assert Plot(3).text == Plot(3).text


def test_the_mentions_of_a_fact_are_its_own() -> None:
    for number in range(30):
        told = Plot(number)
        for fact in ("town", told.name):
            value = told.fact(fact).split()
            places = [i for i in range(len(told.words)) if told.words[i : i + len(value)] == value]
            assert [one.start for one in told.mentions(fact)] == places
            assert all(len(one.other) == one.end - one.start for one in told.mentions(fact))


def test_the_probability_of_a_text_is_how_often_it_is_drawn() -> None:
    toy, draw, count = Grammar([TOY], "start"), random.Random(0).random, 20_000
    found = Counter(toy.write(lambda n: int(draw() * n)) for _ in range(count))
    assert len(found) > 50
    for text, times in found.items():
        [derivation] = toy.parses(text)
        expected = count * 2**-derivation.bits
        assert abs(times - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize(
    ("kind", "with_it", "without", "values"),
    [
        ("month", r"one (?!year)\w+ \w+ in {month}", r"one (?!year)\w+ {day}(?! in {month})", "month"),
        ("weather", r" in {weather} weather", None, "weather"),
        ("quirk", r" {palquirk}", None, "palquirk"),
    ],
)
def test_odds_are_those_of_a_large_sample(
    pairs: list[PlotPair], kind: str, with_it: str, without: str | None, values: str
) -> None:
    """All texts with one of V values are as frequent as those with none, so each is V times as rare."""
    count = 1500
    texts = [normalise(plot(9, i), "clean") for i in range(count)]
    anything = {name: "(?:" + "|".join(options(name)) + ")" for name in ("month", "day", "weather", "palquirk")}
    has = sum(bool(re.search(with_it.format(**anything), text)) for text in texts)
    if without:
        lacks = sum(bool(re.search(without.format(**anything), text)) for text in texts)
    else:
        own = {"weather": "when", "palquirk": "palrole"}[values]
        words = "|".join(options(own))
        lacks = sum(bool(re.search(rf"\b(?:{words})\b", text)) for text in texts) - has
        lacks -= sum(text.count("it begins") for text in texts) if own == "when" else 0
    measured = math.log2(lacks / has * len(options(values)))
    error = math.log2(math.e) * math.sqrt(1 / has + 1 / lacks)
    [exact] = {round(pair.bad_bits - pair.good_bits, 6) for pair in pairs if pair.kind == kind}
    assert exact == pytest.approx(math.log2(len(options(values))), abs=1e-6)
    assert abs(measured - exact) < 4 * error


def options(name: str) -> list[str]:
    table = grammar().slots[name].table
    return [normalise(option.text, "clean") for choice in table.values() for option in choice.options]


def test_the_verb_scores_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pairs: list[PlotPair]
) -> None:
    made = untrained.run(tmp_path, context=256)
    Speller([]).save(made.folder / "speller.json")
    made.list_files("speller.json")
    monkeypatch.setattr(verb, "plot_pairs", lambda count: pairs)
    found = verb.benchmark(str(made.folder), "tinyplots", tmp_path / "out")
    assert set(found["set"]) == {"all", "field", "term"}
    assert set(found["name"]) >= {"memory", "odds", "town", "she or he"}
    assert found["known"][0] == 0  # of this vocabulary; all words are spelled
    assert found["exact_odds"].isna().all()
    assert "term town" in capsys.readouterr().out
    [folder] = (tmp_path / "out" / "benchmarks").iterdir()
    table = pd.read_csv(folder / "pairs.csv")
    assert table["good_exact"].tolist() == pytest.approx([pair.good_bits for pair in pairs])
    (tmp_path / "none").mkdir()
    other = untrained.run(tmp_path / "none", untrained.tokenizer(mode="none"))
    Speller([]).save(other.folder / "speller.json")
    other.list_files("speller.json")
    with pytest.raises(ConfigError, match=r"data\.normalise=none"):
        verb.benchmark(str(other.folder), "tinyplots", tmp_path / "out")
