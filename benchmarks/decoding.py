"""Decoding strategies side by side: python benchmarks/decoding.py RUN --documents 100 --out docs/results/decoding.csv

Every strategy writes on from the first 8 words of the same held-out documents of the run's own corpus; what their
authors went on with is judged beside, as `human`. Out: the CSV; its Markdown table on the terminal; and beside the CSV
a picture (.png) and a page (.md) with the table and two contexts written on by each strategy.

Words are what spaces part in the normalised text, so that any tokenizer will do. measures.py defines repetition,
distinct-1 and -2, self-BLEU and copying. words: the mean length of a continuation. ended: the share that <EOS> ended,
not the limit, which is the tokens of the longest human one. logprob: nats per word, <EOS> counted as one, under the
model itself without any filter; a human word that is <UNK> pays for its spelling too, as in bits per byte.
"""

import argparse
import functools
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measures import Gram, copied, distinct, known, repetition, self_bleu
from picture import draw

from nanolm.config import between, build
from nanolm.corpus.corpus import Corpus, Encoded
from nanolm.errors import NanolmError, RunError
from nanolm.files import make_folder, write_atomic
from nanolm.generator import Generation, Generator, load, say
from nanolm.runs.run import Run
from nanolm.scoring.score import encoded_nats
from nanolm.scoring.speller import Speller, spell
from nanolm.text import escape_controls
from nanolm.tokenizer.base import BOS, EOS

SEED = 0
CONTEXTS = ("the army general", "the dog and the dragon")  # the original's
HEAD = re.compile(r"\s*(?:\S+\s+){7}\S+(?=\s)")  # 8 words that others follow
LEAST = 8  # words that a document must go on for
TIE = 1e-3  # nats: nearer than that, rounding decides
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {"name": "greedy"},
    **{f"beam {n}": {"name": "beam", "num_beams": n} for n in (1, 4, 10)},
    "beam 4, no-repeat 3": {"name": "beam", "num_beams": 4, "no_repeat_ngram_size": 3},
    **{f"temperature {t}": {"name": "sample", "temperature": t} for t in (0.5, 0.7, 0.8, 1.0, 1.2)},
    **{f"top-p {p}": {"name": "sample", "top_p": p} for p in (0.8, 0.9, 0.95)},
    "top-k 40": {"name": "sample", "top_k": 40},
    **{f"min-p {p}": {"name": "sample", "min_p": p} for p in (0.02, 0.05, 0.1)},
}
HEADINGS = {
    "strategy": "strategy",
    "repetition": "repeated 4-grams",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "self_bleu": "self-BLEU",
    "copied": "8-grams of train",
    "words": "words",
    "ended": "ended",
    "logprob": "log-probability of a word",
}
Pairs = Sequence[tuple[str, str]]


@dataclass
class Written:
    """One continuation of every document, by a strategy or by its author."""

    texts: list[list[str]]  # words
    ended: list[bool]  # by <EOS>
    nats: float  # the sum of all log-probabilities

    def measured(self, size: int, seen: set[Gram]) -> dict[str, float]:
        """The columns of its row. size: the words that distinct-n reads; seen: the 8-grams of the training split."""
        words, ends = sum(map(len, self.texts)), sum(self.ended)
        return {
            "repetition": repetition(self.texts),
            "distinct_1": distinct(self.texts, 1, size),
            "distinct_2": distinct(self.texts, 2, size),
            "self_bleu": self_bleu(self.texts),
            "copied": copied(self.texts, seen),
            "words": words / len(self.texts),
            "ended": ends / len(self.texts),
            "logprob": self.nats / max(1, words + ends),
        }


def held_out(corpus: Corpus, writer: Generator, count: int) -> tuple[str, Pairs]:
    """The split, and (first 8 words, rest) of up to `count` of its documents, evenly spread: test, or else val.

    Left out: documents too short, those that the context can't hold, and all but one with the same 8 words.
    """
    split = "test" if corpus.counts["test"] else "val"
    texts, pairs = list(corpus.texts(split)), dict[str, str]()
    for text, ids in zip(texts, writer.tokenizer.encode_batch(texts), strict=True):
        head = HEAD.match(text)
        if head and len(text[head.end() :].split()) >= LEAST and len(ids) < writer.model.context:
            pairs.setdefault(head[0], text[head.end() :])
    if not pairs:
        fit = f"of at least {8 + LEAST} words that fit into the context of {writer.model.context} tokens"
        raise RunError(f"{writer.run}: no {split} document {fit}; take a run with longer documents or context")
    found = list(pairs.items())
    take = min(count, len(found))
    return split, [found[i * len(found) // take] for i in range(take)]


def nats_of(writer: Generator, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """For each sequence of ids, <BOS> first, the log-probability of every id; 0 for <BOS>."""
    offsets = np.array([0, *accumulate(map(len, sequences))])
    encoded = Encoded(np.concatenate([np.array(ids) for ids in sequences]), offsets)
    nats = encoded_nats(writer.model, encoded, writer.model.context, writer.model.device, "fp32")
    return np.split(-nats, offsets[1:-1])


def by_authors(writer: Generator, run: Run, pairs: Pairs) -> tuple[Written, int]:
    """The documents' own rests, and the tokens of the longest, with its <EOS>."""
    heads, wholes = [head for head, _ in pairs], [head + rest for head, rest in pairs]
    begun, read = writer.tokenizer.encode_batch(heads), writer.tokenizer.encode_batch(wholes)
    scored = nats_of(writer, [[BOS, *ids, EOS] for ids in read])
    nats = sum(float(row[1 + len(ids) :].sum()) for row, ids in zip(scored, begun, strict=True))
    speller = Speller.load(run.file("speller.json"))
    spelling = spell(wholes, writer.tokenizer, speller) - spell(heads, writer.tokenizer, speller)  # bits
    texts = [rest.split() for _, rest in pairs]
    room = max(1 + len(ids) - len(first) for ids, first in zip(read, begun, strict=True))
    return Written(texts, [True] * len(texts), nats - log(2) * float(spelling.sum())), room


def by_model(found: Sequence[Generation]) -> Written:
    """What a strategy wrote."""
    texts, ended = [one.continuation.split() for one in found], [one.finished for one in found]
    return Written(texts, ended, sum(one.logprob for one in found))


def write_all(writer: Generator, prompts: list[str], room: int) -> dict[str, list[Generation]]:
    """What each strategy writes on each prompt, in at most `room` tokens; says on stderr how long it took."""
    found: dict[str, list[Generation]] = {}
    for name, fields in STRATEGIES.items():
        begun, config = time.perf_counter(), build("decode", fields | {"max_new_tokens": room})
        found[name] = [best for best, *_ in writer.complete(prompts, config, SEED)]
        print(f"{name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
    return found


def same_as_greedy(writer: Generator, prompts: list[str], found: dict[str, list[Generation]]) -> str:
    """Asserts that one beam wrote what greedy did, or parted from it where two tokens tie; says how often.

    Beams leave the batch one by one, and a smaller batch rounds otherwise: that can turn a tie.
    """
    parted = 0
    read = writer.encode_prompts(prompts, build("decode", STRATEGIES["greedy"]))
    for (_, prompt), *both in zip(read, found["greedy"], found["beam 1"], strict=True):
        ways = [one.ids for one in both]
        if ways[0] == ways[1]:
            continue
        parted += 1
        place = next(i for i, (one, other) in enumerate(zip(*ways, strict=False)) if one != other)
        one, other = (row[len(prompt) + place] for row in nats_of(writer, [[*prompt, *ids] for ids in ways]))
        assert abs(one - other) < TIE, f"one beam is not greedy: {one} and {other} after {prompt + ways[0][:place]}"
    same = f"one beam wrote greedy's very tokens in {len(prompts) - parted} of {len(prompts)} texts"
    return same + "; the others part where two tokens tie" * (parted > 0)


def table(rows: dict[str, Written], documents: Iterable[str]) -> tuple[pd.DataFrame, int]:
    """A row of measures for each name, and how many words distinct-n has read. documents: the training split."""
    size = min(sum(map(len, row.texts)) for row in rows.values())
    seen = known((text for row in rows.values() for text in row.texts), map(str.split, documents))
    measured = [{"strategy": name} | row.measured(size, seen) for name, row in rows.items()]
    return pd.DataFrame(measured, columns=list(HEADINGS)), size


def markdown(rows: pd.DataFrame) -> str:
    """The table as Markdown."""
    lines = [list(HEADINGS.values()), ["---"] * len(HEADINGS)]
    for row in rows.to_dict("records"):
        lines.append([str(row.pop("strategy")), *(f"{x:.{1 if key == 'words' else 3}f}" for key, x in row.items())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def continued(found: dict[str, list[Generation]], place: int) -> str:
    """What each strategy made of the prompt at `place`; an ellipsis where it would have gone on."""
    texts = {name: each[place] for name, each in found.items()}
    ends = {name: "" if one.finished else " ..." for name, one in texts.items()}
    lines = (f"- {name}: {escape_controls(' '.join(one.text.split()))}{ends[name]}" for name, one in texts.items())
    return "\n".join(lines) + "\n"


def compare(name: str, documents: int, out: Path, outputs: Path) -> None:
    """Does what this file is for. Raises NanolmError for whatever the user can mend."""
    between("documents", documents, 1)
    make_folder(out.parent)
    writer = load(name, outputs, precision="fp32")
    writer.tell = functools.cache(say)  # what is to be said of a prompt once, not once a strategy
    run = Run.open(str(writer.run))
    corpus = run.corpus(outputs / "cache")
    split, pairs = held_out(corpus, writer, documents)
    human, room = by_authors(writer, run, pairs)
    prompts = [*(head for head, _ in pairs), *CONTEXTS]
    found = write_all(writer, prompts, room)
    rows = {"human": human} | {name: by_model(each[: len(pairs)]) for name, each in found.items()}
    measured, size = table(rows, corpus.texts("train"))
    about = (
        f"{run.folder.resolve().name}: {len(pairs)} {split} documents written on from their first 8 words, in at most "
        f"{room} tokens, seed {SEED}; distinct-n over the first {size:,} words of each row; "
        f"{same_as_greedy(writer, prompts, found)}.\n\n{markdown(measured)}"
    )
    print(f"\n{about}")
    parts = [f"## {context}\n\n{continued(found, len(pairs) + i)}" for i, context in enumerate(CONTEXTS)]
    write_atomic(out, measured.to_csv(index=False, float_format="%.4f"))
    write_atomic(out.with_suffix(".md"), "\n".join([about, f"![strategies]({out.stem}.png)\n", *parts]))
    draw(out.with_suffix(".png"), measured)
    print(f"written: {out}, {out.stem}.md, {out.stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="latest, best, or a run folder")
    parser.add_argument("--documents", type=int, default=100, help="how many are written on")
    parser.add_argument("--out", type=Path, default=Path("docs/results/decoding.csv"), help="the table")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where runs and their caches lie")
    given = parser.parse_args()
    if given.out.suffix != ".csv":
        parser.error(f"--out {given.out}: must end with .csv")
    try:
        compare(given.run, given.documents, given.out, given.outputs)
    except NanolmError as error:
        raise SystemExit(f"decoding.py: {error}") from None


if __name__ == "__main__":
    main()
