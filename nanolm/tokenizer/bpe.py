"""Byte-level byte-pair encoding by the `tokenizers` library. Text in; out, ids of byte sequences that are frequent.

All 256 bytes are tokens, so nothing is unknown and every text comes back whole. The special tokens hold the ids 0 to 3
but are not known to the library's matcher: text that looks like one is encoded as any other. Sennrich et al. 2016,
https://arxiv.org/abs/1508.07909; on bytes as in GPT-2.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nanolm.config import between, knob
from nanolm.text import BEFORE_SPACE, all_cut_up
from nanolm.tokenizer.base import BOS, EOS, PAD, SPECIALS, Tokenizer, TokenizerConfig, ordered

# use_regex parts letters from punctuation, so that no merge can spell a special token's name
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


class BPETokenizer(Tokenizer):
    """`vocabulary` spells bytes in the library's byte alphabet (a space is Ġ); `decode_token` gives the text."""

    threaded = True
    cut = BEFORE_SPACE

    def __init__(
        self, config: TokenizerConfig, normalise: str, vocabulary: Sequence[str], merges: Sequence[Sequence[str]]
    ) -> None:
        super().__init__(config, normalise, vocabulary)
        self.merges = [list(pair) for pair in merges]

    def encode(self, text: str) -> list[int]:
        return self._engine.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._engine.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        return self._engine.decode([int(i) for i in ids if i not in (PAD, BOS, EOS)], skip_special_tokens=False)

    def unknown(self, text: str) -> list[str]:
        return []

    def pipeline(self) -> dict[str, Any]:
        vocab = {token: i for i, token in enumerate(self.vocabulary)}
        model = {"type": "BPE", "vocab": vocab, "merges": self.merges}
        return {"pre_tokenizer": BYTES, "decoder": BYTES, "model": model}

    @cached_property
    def _engine(self) -> Any:
        from tokenizers import Tokenizer as Library

        return Library.from_str(json.dumps({"version": "1.0", "added_tokens": [], **self.pipeline()}))


@dataclass
class BPEConfig(TokenizerConfig):
    """`vocab_size` counts the specials and the 256 bytes; a merge is seen at least `minfreq` times in the training."""

    name: str = "bpe"
    minfreq: int = knob(2, "how often the training texts must hold a pair that is to be merged")
    vocab_size: int = knob(4096, "tokens at most; the 4 specials and the 256 bytes count")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("tokenizer.vocab_size", self.vocab_size, len(SPECIALS) + 256)

    def fit(self, texts: Iterable[str], normalise: str) -> BPETokenizer:
        from tokenizers import Tokenizer as Library
        from tokenizers import models, pre_tokenizers, trainers

        engine = Library(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - len(SPECIALS),
            min_frequency=self.minfreq,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        engine.train_from_iterator(all_cut_up(texts, BEFORE_SPACE), trainer)
        model = json.loads(engine.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return BPETokenizer(self, normalise, [*SPECIALS, *tokens], model["merges"])

    def restore(self, normalise: str, model: dict[str, Any]) -> BPETokenizer:
        from tokenizers import pre_tokenizers

        vocabulary, merges = ordered(model["vocab"]), model["merges"]
        usable = set(vocabulary) - set(SPECIALS)
        if not usable.issuperset(pre_tokenizers.ByteLevel.alphabet()):
            raise ValueError("the vocabulary lacks some of the 256 bytes")
        if not all(len(pair) == 2 and usable.issuperset((*pair, pair[0] + pair[1])) for pair in merges):
            raise ValueError("a merge is not of two tokens to a third")
        return BPETokenizer(self, normalise, vocabulary, merges)
