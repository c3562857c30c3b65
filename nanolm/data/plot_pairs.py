"""Minimal pairs of tinyplots: a plot, and a change of it that the grammar forbids or holds less likely.

In: a number per kind. Out: pairs of clean texts with the exact bits of both under the grammar, inf where it can't write
one. Every pair comes from a plot that no seed writes. Each change is tried on the text alone; whether it is wrong, and
by how much, says `parse`.
"""

import random
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from functools import partial
from typing import NamedTuple, Optional

from nanolm.data.grammar import Derivation, Grammar
from nanolm.data.tinyplots import grammar, parse, sources
from nanolm.text import normalise

PLOTS = 3000  # that are searched for pairs
OF_A_GENRE = ("beast", "crowd", "building", "food", "vehicle", "object")
VERBS = {"are": "is", "have": "has", "is": "are", "has": "have"}
OPENERS = {"twist": ("then", "so"), "ending": ("last",)}  # rules of what a sentence may begin with


class PlotPair(NamedTuple):
    """Two texts; the good one is the likelier under the grammar."""

    field: str
    kind: str
    good: str
    bad: str
    good_bits: float
    bad_bits: float


class Mention(NamedTuple):
    """A place of a text that another value of a fact would change, and the words that would stand there."""

    start: int
    end: int
    other: list[str]


class Plot:
    """A plot to be changed: its words, its derivation, and chance."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(f"pairs-{number}")
        draw = self.random.random
        self.text = normalise(grammar().write(lambda n: int(draw() * n)), "clean")
        self.words = self.text.split()
        found = parse(self.text, "clean")
        assert found is not None
        self.found: Derivation = found
        self.name = "woman" if found.facts["sex"] == "f" else "man"  # the pool of the hero's

    def fact(self, name: str) -> str:
        """What the plot has drawn, as its text has it; empty where it needed none."""
        return normalise(self.found.facts.get(name, ""), "clean")

    def values(self, name: str, key: str = "") -> list[str]:
        """What could have been drawn, where the fact's key is `key` or else what it is in this plot."""
        slot = grammar().slots[name]
        table = slot.table[key or (self.found.facts[slot.key] if slot.key else "")]
        return [normalise(option.text, "clean") for option in table.options]

    def mentions(self, fact: str) -> list[Mention]:
        """The places that depend on a fact, found by telling the same plot with another value of as many words.

        What is told depends on how many words were said before.
        """
        if fact not in self.found.drawn:
            return []
        place, choices = self.found.drawn.index(fact), list(self.found.choices)
        sizes = [len(value.split()) for value in self.values(fact)]
        own = choices[place]
        others = [number for number, size in enumerate(sizes) if number != own and size == sizes[own]]
        if not others:
            return []
        choices[place] = self.random.choice(others)
        told = normalise(grammar().replay(choices), "clean").split()
        changes = SequenceMatcher(None, self.words, told, autojunk=False).get_opcodes()
        return [Mention(a, b, told[c:d]) for what, a, b, c, d in changes if what == "replace"]

    def changed(self, mentions: list[Mention]) -> Optional[str]:
        """The text with these places changed; None for none."""
        words = list(self.words)
        for start, end, other in sorted(mentions, reverse=True):
            words[start:end] = other
        return " ".join(words) if mentions else None


# Changes: a text that differs from the plot's own, or None where the plot gives no chance to


def forget(fact: str, plot: Plot) -> Optional[str]:
    """The last mention of what was said before says something else."""
    mentions = plot.mentions(fact)
    return plot.changed(mentions[-1:]) if len(mentions) > 1 else None


def forget_hero(plot: Plot) -> Optional[str]:
    """The hero has another name of the same sex at the last mention."""
    return forget(plot.name, plot)


def other_pronoun(forms: tuple[str, ...], plot: Plot) -> Optional[str]:
    """The last of these pronouns is of the other sex."""
    return plot.changed([one for one in plot.mentions("sex") if plot.words[one.start] in forms][-1:])


def other_name(plot: Plot) -> Optional[str]:
    """The hero's name is of the other sex, all pronouns as they were."""
    mentions = plot.mentions("sex")
    own = [one for one in mentions if plot.words[one.start] == plot.fact(plot.name)]
    return plot.changed(own) if len(own) < len(mentions) else None


def other_number(plot: Plot) -> Optional[str]:
    """A verb is of the other number; plural ones first, which are rarer."""
    for verb, other in VERBS.items():
        if verb in plot.words:
            place = len(plot.words) - 1 - plot.words[::-1].index(verb)
            return plot.changed([Mention(place, place + 1, [other])])
    return None


def other_article(plot: Plot) -> Optional[str]:
    """`a` before a vowel, or `an` where there is none."""
    article, other = ("an", "a") if "an" in plot.words else ("a", "an")
    place = plot.words.index(article)
    return plot.changed([Mention(place, place + 1, [other])])


def other_key(facts: tuple[str, ...], plot: Plot) -> Optional[str]:
    """A thing of another genre or passion, from its first mention on."""
    known = [fact for fact in facts if plot.fact(fact)]
    if not known:
        return None
    fact = plot.random.choice(known)
    slot = grammar().slots[fact]
    key = plot.random.choice([key for key in slot.table if key != plot.found.facts[slot.key]])
    other = plot.random.choice(plot.values(fact, key)).split()
    size = len(plot.fact(fact).split())
    places = [one.end for one in plot.mentions(fact)]
    return plot.changed([Mention(end - size, end, other) for end in places])


def swap_ending(plot: Plot) -> Optional[str]:
    """The last two sentences in the other order."""
    *before, first, second = plot.text.removesuffix(" .").split(" . ")
    return " . ".join([*before, second, first]) + " ."


def swap_introduction(plot: Plot) -> Optional[str]:
    """`the sword` where it is new, and `a golden sword` where it is known."""
    known, new = f"the {plot.fact('object')}", f"{plot.fact('finish')} {plot.fact('object')}"
    found = re.search(rf"\b(an? {new}) (.*)\b({known})\b", plot.text) if plot.fact("object") else None
    if not found:
        return None
    return plot.text[: found.start()] + f"{found[3]} {found[2]}{found[1]}" + plot.text[found.end() :]


def leave_out(pattern: str, plot: Plot) -> Optional[str]:
    """The text without the first match of the pattern, which may name facts."""
    names = re.findall(r"{(\w+)}", pattern)
    if not all(plot.fact(name) for name in names):
        return None
    return re.sub(pattern.format(**{name: plot.fact(name) for name in names}), "", plot.text, count=1)


def leave_out_opener(openers: dict[str, Grammar], plot: Plot) -> Optional[str]:
    """The text without the words that a sentence begins with, `as luck would have it`."""
    sentences = plot.text.split(" . ")
    for place in reversed(range(2, len(sentences))):
        words = sentences[place].split()
        for count in range(min(8, len(words) - 1), 0, -1):
            if any(any(rules.parses(" ".join(words[:count]))) for rules in openers.values()):
                return " . ".join([*sentences[:place], " ".join(words[count:]), *sentences[place + 1 :]])
    return None


def say_exactly(plot: Plot) -> Optional[str]:
    """`four weeks later` for `a week later`, or the other way round: four is one of seventeen numbers."""
    other = re.sub(r"\ba week later", "four weeks later", plot.text, count=1)
    return other if other != plot.text else re.sub(r"\w+ weeks later", "a week later", plot.text, count=1)


def pair_kinds() -> dict[tuple[str, str], Callable[[Plot], Optional[str]]]:
    """(field, kind) -> the change. Of `odds` the grammar can write both texts, of all others only the plot."""
    openers = {kind: {rule: Grammar(sources(), rule) for rule in rules} for kind, rules in OPENERS.items()}
    found: dict[tuple[str, str], Callable[[Plot], Optional[str]]] = {
        ("agreement", "she or he"): partial(other_pronoun, ("she", "he")),
        ("agreement", "her or his"): partial(other_pronoun, ("her", "his", "him")),
        ("agreement", "name"): other_name,
        ("agreement", "verb"): other_number,
        ("agreement", "article"): other_article,
        ("memory", "hero"): forget_hero,
        ("consistency", "genre"): partial(other_key, OF_A_GENRE),
        ("consistency", "passion"): partial(other_key, ("kit", "stuff")),
        ("order", "events"): swap_ending,
        ("order", "introduction"): swap_introduction,
        ("odds", "month"): partial(leave_out, " in {month}"),
        ("odds", "weather"): partial(leave_out, " in {weather} weather"),
        ("odds", "quirk"): partial(leave_out, " {palquirk}"),
        ("odds", "air"): partial(leave_out, "{air} "),
        ("odds", "theme"): partial(leave_out, r" and an? \w+(?= \.)"),
        ("odds", "number"): say_exactly,
    }
    for fact in ("villain", "villainrole", "pal", "town", "job", *OF_A_GENRE):
        found["memory", fact] = partial(forget, fact)
    for kind, rules in openers.items():
        found["odds", kind] = partial(leave_out_opener, rules)
    return found


def plot_pairs(count: int) -> list[PlotPair]:
    """Up to `count` pairs of each kind, in the order of the kinds."""
    wanted, found = pair_kinds(), dict[tuple[str, str], list[PlotPair]]()
    for number in range(PLOTS):
        missing = {name: change for name, change in wanted.items() if len(found.setdefault(name, [])) < count}
        if not missing:
            break
        plot = Plot(number)
        for name, change in missing.items():
            if pair := judged(*name, plot, change(plot)):
                found[name].append(pair)
    return [pair for name in wanted for pair in found[name]]


def judged(field: str, kind: str, plot: Plot, other: Optional[str]) -> Optional[PlotPair]:
    """The pair with its exact bits; None where the change does nothing, or not what its field says."""
    if other is None or other == plot.text:
        return None
    own, found = plot.found.bits, parse(other, "clean")
    bits = found.bits if found else float("inf")
    if (field == "odds") != (found is not None) or bits == own:
        return None
    if bits < own:
        return PlotPair(field, kind, other, plot.text, bits, own)
    return PlotPair(field, kind, plot.text, other, own, bits)
