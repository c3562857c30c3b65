"""What every tokenizer shares: the special tokens, the interface, and the one file `tokenizer.json`.

In: normalised text. Out: ids, and text again. The file is in the format of the `tokenizers` library, which opens it
with the same ids; what only nanolm needs (config, normalisation) lies under `model.nanolm`, which the library ignores.
Knows nothing of any single tokenizer: the class that opens a file is found by the name in its config.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nanolm.config import MISSING, between, build, check_name, knob, plain
from nanolm.errors import NanolmError, RunError
from nanolm.files import fingerprint, read_json, write_json
from nanolm.text import MODES, cut_up
from nanolm.tokenizer.pipeline import normalizer

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")
FORMAT = 1


@dataclass
class TokenizerConfig:
    """What a tokenizer is fitted by. `minfreq`: the least count in the training texts that gives a token its own id."""

    name: str = MISSING
    minfreq: int = knob(1, "how often the training texts must hold a token that is to get an id of its own")

    def __post_init__(self) -> None:
        check_name("tokenizer", self)
        between("tokenizer.minfreq", self.minfreq, 1)

    def fit(self, texts: Iterable[str], normalise: str) -> "Tokenizer":
        """A tokenizer fitted on texts that are already normalised by the mode `normalise`; one pass, nothing kept."""
        raise NotImplementedError

    def restore(self, normalise: str, model: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that wrote `model` (unchecked); KeyError, TypeError or ValueError where it is odd."""
        raise NotImplementedError


class Tokenizer:
    """Text <-> ids. `vocabulary[id]` is a token's text, the four specials first.

    decode(encode(text)) == text for every normalised text without <UNK>. Text that looks like a special token is
    text: no encoding ever yields the ids 0, 2, 3, and 1 only for what is not in the vocabulary. `dropped[n]` is how
    many pieces occurred n < minfreq times in the training texts: the tail of the frequency-rank curve.
    """

    threaded = False  # whether encode_batch uses all cores by itself
    cut: re.Pattern[str] | None = None  # no token reaches over where it matches, so a long text may be cut there

    def __init__(
        self, config: TokenizerConfig, normalise: str, vocabulary: Sequence[str], dropped: dict[int, int] | None = None
    ) -> None:
        self.config, self.normalise, self.vocabulary, self.dropped = config, normalise, list(vocabulary), dropped or {}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text, without <BOS> and <EOS>."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, faster where the tokenizer knows how."""
        return [self.encode(text) for text in texts]

    def encode_parts(self, text: str) -> Iterator[list[int]]:
        """`encode` of a long text, a part at a time: as one list its ids would take ten times its memory."""
        for part in cut_up(text, self.cut):
            yield from self.encode_batch([part])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; <PAD> <BOS> <EOS> are left out, <UNK> is shown."""
        raise NotImplementedError

    def decode_token(self, token: int) -> str:
        """One token as text, specials by their names; a part of a character (bpe) as the replacement character."""
        return SPECIALS[token] if token < len(SPECIALS) else self.decode([token])

    def unknown(self, text: str) -> list[str]:
        """The pieces of a normalised text that become <UNK>, in order."""
        raise NotImplementedError

    def pipeline(self) -> dict[str, Any]:
        """`pre_tokenizer`, `decoder` and `model` in the format of the `tokenizers` library."""
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        """Tokenizers with equal fingerprints give equal ids."""
        return fingerprint([self.config.name, self.normalise, self.pipeline()["model"]])

    def save(self, path: Path | str) -> None:
        """Writes tokenizer.json. `tokenizers.Tokenizer.from_file` and `PreTrainedTokenizerFast(tokenizer_file=...)`
        read it and give the same ids, of raw text too: the normalisation is in the file. Where transformers is told of
        special tokens (`bos_token="<BOS>"` ...) it needs `split_special_tokens=True` as well, or else it takes a
        typed `<BOS>` for the token."""
        parts = self.pipeline()
        own = {"format": FORMAT, "config": plain(self.config), "normalise": self.normalise}
        parts["model"]["nanolm"] = own | {"dropped": sorted(self.dropped.items())}
        fixed: dict[str, Any] = {"version": "1.0", "added_tokens": [], "normalizer": normalizer(self.normalise)}
        write_json(path, fixed | parts)


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer saved at `path`. Only its vocabulary, merges and config are read, each checked; no code runs.

    Raises RunError, one line that names the file.
    """
    file = read_json(path)
    try:
        own = file["model"]["nanolm"]
        if own["format"] != FORMAT or own["normalise"] not in MODES:
            raise ValueError("an unknown format or normalisation")
        config: TokenizerConfig = build("tokenizer", dict(own["config"]))
        return config.restore(own["normalise"], file["model"])
    except (KeyError, TypeError, ValueError, NanolmError) as error:
        reason = f"no {error} in it" if isinstance(error, KeyError) else ascii(str(error))[1:-1]
        raise RunError(f"{path}: not a tokenizer saved by nanolm ({reason}); make it again with tokenize.py") from error


def ordered(vocab: Any) -> list[str]:
    """The tokens of a stranger's {token: id} by id. Raises ValueError unless the ids are 0..n-1, the specials first."""
    if not isinstance(vocab, dict) or not all(type(token) is int for token in vocab.values()):
        raise ValueError("the vocabulary is no table of token and id")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if [vocab[token] for token in tokens] != list(range(len(vocab))) or tuple(tokens[: len(SPECIALS)]) != SPECIALS:
        raise ValueError("the vocabulary's ids are not 0 to n-1 with the special tokens first")
    return tokens
