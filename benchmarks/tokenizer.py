"""Tokenizers: fitting and encoding, word and char, against the `tokenizers` library doing the same on the same text.

Prints tables of megabytes per second, and what fitting and encoding add to the memory of a started process.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timer import MOVIES, compare, machine
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from nanolm.config import build
from nanolm.text import normalise

MINFREQ = 2
ENCODERS = ("encode_batch", "encode_batch_fast")
GROWTH = """
import resource, sys
sys.path.insert(0, "benchmarks")
from tokenizer import build, texts, MINFREQ
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
found = texts()
size, before = sum(map(len, found)), peak()
made = build("tokenizer", {"name": sys.argv[1], "minfreq": MINFREQ}).fit(found, "clean")
total = sum(len(made.encode(text)) for text in found)
print(f"{sys.argv[1]}: {(peak() - before) / size:.2f} times the text ({size / 1e6:.1f} MB, {total:,} tokens)")
"""


def texts() -> list[str]:
    """The normalised films, or tinyplots where they are missing."""
    films = {"name": "movie_plots", "path": str(MOVIES)}
    data = build("data", films if MOVIES.exists() else {"name": "tinyplots", "plots": 10000})
    return [normalise(text, "clean") for text in data.documents(Counter())]


def library(name: str) -> tuple[Tokenizer, trainers.Trainer]:
    """The same tokenizer in the library's words."""
    made = Tokenizer(models.WordLevel(unk_token="<UNK>"))
    by_char = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.pre_tokenizer = by_char if name == "char" else pre_tokenizers.WhitespaceSplit()
    specials = ["<PAD>", "<UNK>", "<BOS>", "<EOS>"]
    return made, trainers.WordLevelTrainer(
        vocab_size=2**31, min_frequency=MINFREQ, special_tokens=specials, show_progress=False
    )


def main() -> None:
    machine("Tokenizers")
    found = texts()
    size = sum(len(text.encode()) for text in found) / 1e6
    print(f"\n{len(found):,} documents of {'films' if MOVIES.exists() else 'tinyplots'}, {size:.1f} MB normalised.")
    for name in ("word", "char"):
        config = build("tokenizer", {"name": name, "minfreq": MINFREQ})
        ours, (theirs, trainer) = config.fit(found, "clean"), library(name)
        theirs.train_from_iterator(found, trainer)
        assert len(ours) == theirs.get_vocab_size()

        def amount(work: Callable[[], object]) -> Callable[[], float]:
            return lambda: size * bool(work())

        print(f"\n`{name}`, vocabulary {len(ours):,}:")
        fits = {"tokenizers, fit": amount(partial(fit_theirs, name, found))}
        compare(fits | {"nanolm, fit": amount(partial(config.fit, found, "clean"))}, "MB/s", 3)
        encodings = {f"tokenizers, {how}": amount(partial(encode, theirs, how, found)) for how in ENCODERS}
        compare(encodings | {"nanolm, encode_batch": amount(partial(ours.encode_batch, found))}, "MB/s", 3)
    print("\nPeak memory that fitting and encoding (a document at a time) add to a process that holds the text:\n")
    for name in ("word", "char"):
        subprocess.run([sys.executable, "-c", GROWTH, name], cwd=Path(__file__).parent.parent, check=True)


def encode(made: Tokenizer, how: str, found: list[str]) -> list[list[int]]:
    """The library's ids, as lists."""
    return [encoding.ids for encoding in getattr(made, how)(found)]


def fit_theirs(name: str, found: list[str]) -> Tokenizer:
    """The library's fit."""
    made, trainer = library(name)
    made.train_from_iterator(found, trainer)
    return made


if __name__ == "__main__":
    main()
