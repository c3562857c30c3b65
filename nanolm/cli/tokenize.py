"""The verb behind tokenize.py: fits a tokenizer on a corpus and says what it does to the text.

In: a data and a tokenizer config. Out: tables on the terminal; tokenizer.json and the frequency-rank curve as PNG.
Corpus, tokenizer and ids come through the cache, so that train.py finds them there. Knows no model.
"""

from pathlib import Path

import numpy as np

from nanolm.corpus.corpus import Corpus, Encoded, advise, encode_corpus, fit_tokenizer, load_corpus
from nanolm.data.base import DataConfig
from nanolm.files import make_folder
from nanolm.plots import frequency_rank
from nanolm.tokenizer.base import SPECIALS, UNK, Tokenizer, TokenizerConfig
from nanolm.workers import BLOCK

DOCUMENTS = 3  # with examples
SHOWN = 12  # tokens in a row of examples
LONGEST = 40  # characters shown of a token


def tokenize(data: DataConfig, tokenizer: TokenizerConfig, outputs: str | Path) -> None:
    """Prints the tables; writes outputs/tokenizers/<name>-<fingerprint>/tokenizer.json and frequency_rank.png."""
    cache = Path(outputs, "cache")
    corpus = load_corpus(data, cache)
    fitted = fit_tokenizer(tokenizer, corpus, cache)
    encoded = encode_corpus(corpus, fitted, cache)
    train, val = (frequencies(encoded[split].ids, len(fitted)) for split in ("train", "val"))
    print(*advise(corpus, fitted, encoded), corpus.summary(), sep="\n")
    for name, value in (summary(corpus, fitted, train, val) | examples(corpus, fitted, encoded["val"])).items():
        print(f"{name:15} {value}")
    folder = make_folder(Path(outputs, "tokenizers", f"{tokenizer.name}-{fitted.fingerprint[:8]}"))
    fitted.save(folder / "tokenizer.json")
    kept = np.sort(train[len(SPECIALS) :][train[len(SPECIALS) :] > 0])[::-1]
    tail = [np.repeat(n, types) for n, types in sorted(fitted.dropped.items(), reverse=True)]  # below minfreq
    title = f"{tokenizer.name} tokens of {fitted.normalise} text"
    frequency_rank(folder / "frequency_rank.png", np.concatenate([kept, *tail]), len(kept), tokenizer.minfreq, title)
    print(f"written to {folder}: tokenizer.json, frequency_rank.png")


def frequencies(ids: np.ndarray, size: int) -> np.ndarray:
    """How often each of `size` ids occurs, block by block: bincount makes a copy of what it counts, 8 bytes an id."""
    parts = (np.bincount(ids[first : first + BLOCK], minlength=size) for first in range(0, len(ids), BLOCK))
    return sum(parts, np.zeros(size, np.int64))


def summary(corpus: Corpus, tokenizer: Tokenizer, train: np.ndarray, val: np.ndarray) -> dict[str, str]:
    """What the tokenizer does to the text, in numbers; `train` and `val`, (vocabulary,), are the counts of each id."""
    known, tokens = train[len(SPECIALS) :], int(val[len(SPECIALS) :].sum() + val[UNK])
    words = sum(len(text.split()) for text in corpus.texts("val"))
    size = int(corpus.nbytes("val").sum()) - len(corpus.texts("val"))  # without the newline that <EOS> pays for
    dropped = f"; {sum(tokenizer.dropped.values()):,} below minfreq left out" if tokenizer.dropped else ""
    falling = len(SPECIALS) + np.argsort(-known, kind="stable")[: np.count_nonzero(known)]
    counted = [f"{printable(tokenizer.decode_token(i))} {train[i]:,}" for i in (*falling[:SHOWN], *falling[-SHOWN:])]
    return {
        "vocabulary": f"{len(tokenizer):,} with {len(SPECIALS)} specials{dropped}",
        "coverage": f"{known.sum() / max(1, known.sum() + train[UNK]):.2%} of the train tokens",
        "<UNK>": f"{val[UNK] / max(1, tokens):.2%} of the val tokens",
        "tokens per word": f"{tokens / max(1, words):.3f} on val",
        "bytes per token": f"{size / max(1, tokens):.3f} on val",
        "most frequent": ", ".join(counted[: len(counted) // 2]),
        "rarest kept": ", ".join(counted[len(counted) // 2 :]),
    }


def examples(corpus: Corpus, tokenizer: Tokenizer, encoded: Encoded) -> dict[str, str]:
    """The heads of the first val documents as pieces with their ids; an unknown piece is shown in brackets."""
    rows = {}
    for i in range(min(DOCUMENTS, len(encoded))):
        ids, unknown = encoded.document(i)[1:-1][:SHOWN], iter(tokenizer.unknown(corpus.texts("val")[i]))
        pieces = [f"<UNK>({next(unknown)})" if token == UNK else tokenizer.decode_token(token) for token in ids]
        rows[f"val {i}"] = " | ".join(f"{printable(piece)} {token}" for piece, token in zip(pieces, ids, strict=True))
    return rows


def printable(token: str) -> str:
    """A token as it may go to a terminal: spaces marked, control characters as in Python's literals; cut when long."""
    shown = token.replace(" ", "␣") if token.isprintable() else repr(token)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
