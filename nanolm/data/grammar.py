"""A stochastic grammar with a memory: it writes a text from choices, and reads the choices back from a text.

In: rules (their notation is told at the top of `plots/story.txt`). Out: texts, and derivations with their exact
probability: every choice is flat, so it is 1 over the product of the numbers of options. What a pool gives is a fact:
drawn where it is first needed, remembered to the end of the text. Knows nothing of plots.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from nanolm.text import normalise

_TOKEN = re.compile(r"\{\w+\}|\{<?\w+\?|[()\[\]|}]|[^{}()\[\]|]+")
_SECTION = re.compile(r"\[(\w+) (\w+)\]")
_AN = re.compile(r"\b([Aa])n\b")
_VOWEL = re.compile(
    r"\b([Aa])(?= (?:[aeioAEIO](?!ne\b|nce\b|uro)|[uU](?!ni[cfoqtv]|s(?:e|ur)|kulele)|hour|heir|hono|hones))"
)
_SIGNS = re.compile(r"(?: ?,)? ?([,.:;?!])")  # where two signs meet, the comma gives way
_START = re.compile(r"(?:^|[.?!] )[a-z]")

Rest = Optional[tuple[Any, Any]]  # the nodes still to come, as a linked list


class Words(NamedTuple):
    """Literal text, and its words as a parser sees them."""

    text: str
    words: list[str]


class Option(NamedTuple):
    """One thing that can be chosen: what it stands for, and how the rules spell it."""

    nodes: tuple[Any, ...]
    text: str


class Ask(NamedTuple):
    """`yes` where the fact `name` is known already (or: where fewer than `room` words were said), else `no`."""

    name: str
    room: int
    yes: Option
    no: Option


class Choice:
    """A flat choice, with an index from the next word to the options that begin with it."""

    def __init__(self, options: Iterable[Option]) -> None:
        self.options = tuple(options)
        self.index: dict[str, list[int]] = {}
        self.others: list[int] = []  # those that begin with something else
        for i, option in enumerate(self.options):
            literal = option.nodes and type(option.nodes[0]) is Words and option.nodes[0].words
            (self.index.setdefault(literal[0], []) if literal else self.others).append(i)


@dataclass
class Slot:
    """A pool or a rule; `table` holds one choice per value of the fact `key`, or just one, under ""."""

    name: str
    pool: bool = False
    key: str = ""
    table: dict[str, Choice] = field(default_factory=dict)


class Derivation(NamedTuple):
    """`choices`: the index taken wherever there was more than one option; `ways`: the product of their numbers.

    drawn: the fact that each choice settled, "" where it settled none.
    """

    choices: tuple[int, ...]
    ways: int
    facts: dict[str, str]
    drawn: tuple[str, ...]

    @property
    def bits(self) -> float:
        """-log2 of its probability."""
        return math.log2(self.ways)


class Grammar:
    """The rules of all `sources`; a text is what the rule `start` says."""

    def __init__(self, sources: Iterable[str], start: str) -> None:
        self.slots: dict[str, Slot] = {}
        for source in sources:
            self._read(source)
        for key in {slot.key for slot in self.slots.values()} - {""}:  # a key is a silent pool of the sections' values
            values = sorted({value for slot in self.slots.values() if slot.key == key for value in slot.table})
            self.slots[key] = Slot(key, True, "", {"": Choice(Option((), value) for value in values)})
        if empty := [slot.name for slot in self.slots.values() if not slot.table]:
            raise ValueError(f"nothing says what {', '.join(empty)} is")
        self.start = _push((self.slots[start],), None)

    def write(self, choose: Callable[[int], int]) -> str:
        """The text that comes of `choose(n)`, an index below n, at every choice."""
        out: list[str] = []
        facts: dict[str, Option] = {}
        rest, at = self.start, 0
        while rest:
            node, rest = rest
            if type(node) is Words:
                out.append(node.text)
                at += len(node.words)
            elif option := _settled(node, facts, at):
                rest = _push(option.nodes, rest)
            else:
                name, choice, rest = self._open(node, rest, facts)
                options = choice.options
                option = options[choose(len(options))] if len(options) > 1 else options[0]
                if name:
                    facts[name] = option
                rest = _push(option.nodes, rest)
        return _polish(" ".join(out))

    def replay(self, choices: Iterable[int]) -> str:
        """The text of a derivation's choices."""
        taken = iter(choices)
        return self.write(lambda n: next(taken))

    def parses(self, text: str) -> Iterator[Derivation]:
        """Every derivation of a text that has the words of `text`, found depth first."""
        words = [*_words(text), ""]
        todo: list[tuple[Rest, int, dict[str, Option], Any]] = [(self.start, 0, {}, None)]
        while todo:
            rest, at, facts, trail = todo.pop()
            while rest:
                node, rest = rest
                if type(node) is Words:
                    end = at + len(node.words)
                    if words[at:end] != node.words:
                        break
                    at = end
                elif option := _settled(node, facts, at):
                    rest = _push(option.nodes, rest)
                else:
                    name, choice, rest = self._open(node, rest, facts)
                    n = len(choice.options)
                    for i in choice.index.get(words[at], []) + choice.others:
                        option = choice.options[i]
                        known = {**facts, name: option} if name else facts
                        todo.append((_push(option.nodes, rest), at, known, (i, n, name, trail) if n > 1 else trail))
                    break
            else:
                if at == len(words) - 1:
                    yield _derivation(trail, facts)

    def _open(self, node: Any, rest: Rest, facts: dict[str, Option]) -> tuple[str, Choice, Rest]:
        """The fact that `node` binds (or ""), its options, and what follows; its key must be drawn before it."""
        if type(node) is Choice:
            return "", node, rest
        if node.key and node.key not in facts:
            rest, node = (node, rest), self.slots[node.key]
        value = facts[node.key].text if node.key else ""
        return node.name if node.pool else "", node.table[value], rest

    def _read(self, source: str) -> None:
        """Adds the rules of one source."""
        key = value = ""
        found: dict[tuple[str, str], list[str]] = {}
        lines: list[str] = []
        for line in source.splitlines():
            if line.startswith(" "):
                lines.append(line)
            elif match := _SECTION.fullmatch(line):
                key, value = match[1], match[2]
            elif line and not line.startswith("#"):
                name, _, pool = line.partition(":")
                slot = self._slot(name)
                slot.pool, slot.key = bool(pool), key
                lines = found[name, value] = pool.split(",") if pool else []
        for (name, value), texts in found.items():
            options = (Option(self._nodes(iter(_TOKEN.findall(text)))[0], text) for text in map(str.strip, texts))
            self.slots[name].table[value] = Choice(options)

    def _slot(self, name: str) -> Slot:
        return self.slots.setdefault(name, Slot(name))

    def _nodes(self, tokens: Iterator[str]) -> list[tuple[Any, ...]]:
        """The nodes up to the bracket that closes, one tuple per alternative."""
        found: list[list[Any]] = [[]]
        for token in tokens:
            if token in ")]}":
                break
            if token == "|":
                found.append([])
            elif token in "([":
                options = [Option(nodes, "") for nodes in self._nodes(tokens)]
                if token == "[":  # may be left out
                    options.append(Option((), ""))
                found[-1].append(Choice(options))
            elif token.startswith("{") and token.endswith("?"):
                room = int(token[2:-1]) if token[1] == "<" else 0
                found[-1].append(Ask(token[1:-1], room, *(Option(nodes, "") for nodes in self._nodes(tokens))))
            elif token.startswith("{"):
                found[-1].append(self._slot(token[1:-1]))
            elif token.strip():
                found[-1].append(Words(_AN.sub(r"\1", token.strip()), _words(token)))
        return [tuple(nodes) for nodes in found]


def _settled(node: Any, facts: dict[str, Option], at: int) -> Option | None:
    """What `node` stands for where nothing is left to choose."""
    if type(node) is Ask:
        return node.yes if node.name in facts or at < node.room else node.no
    return facts.get(node.name) if type(node) is Slot else None


def _push(nodes: tuple[Any, ...], rest: Rest) -> Rest:
    for node in reversed(nodes):
        rest = (node, rest)
    return rest


def _words(text: str) -> list[str]:
    """The words that count: clean ones, and `an` as `a`, which the next word decides."""
    return _AN.sub(r"\1", normalise(text, "clean")).split()


def _derivation(trail: Any, facts: dict[str, Option]) -> Derivation:
    choices, drawn, ways = [], [], 1
    while trail:
        i, n, name, trail = trail
        choices.append(i)
        drawn.append(name)
        ways *= n
    told = {name: option.text for name, option in facts.items()}
    return Derivation(tuple(reversed(choices)), ways, told, tuple(reversed(drawn)))


def _polish(text: str) -> str:
    """Signs without a space before them, `an` before a vowel, a capital at the start of a sentence."""
    text = _VOWEL.sub(r"\1n", _SIGNS.sub(r"\1", text))
    return _START.sub(lambda match: match[0].upper(), text)
