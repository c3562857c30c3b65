"""Every tokenizer under every normalisation, fitted on a few texts, and any text to try them on."""

from hypothesis import strategies as st

from nanolm.text import MODES, normalise
from nanolm.tokenizer.base import SPECIALS, Tokenizer, TokenizerConfig
from nanolm.tokenizer.bpe import BPEConfig
from nanolm.tokenizer.char import CharConfig
from nanolm.tokenizer.word import WordConfig

TEXTS = [
    "The general's army [1] is sent to the city. The army waits!",
    "A café, an <EOS> and <PAD><BOS>; naïve   spaces\n\nand\ttabs. ΟΔΟΣ 漢字 🎬",
    "The <UNK> of the city... eos bos pad unk",
]
CONFIGS: dict[str, TokenizerConfig] = {
    "char": CharConfig(minfreq=2),
    "word": WordConfig(minfreq=2),
    "bpe": BPEConfig(vocab_size=280),
}
KINDS = [(name, mode) for name in CONFIGS for mode in MODES]
# every character that this Python's Unicode tables know; half of the letters ones that occur in TEXTS or spell specials
KNOWN = st.characters(codec="utf-8", exclude_categories=["Cn"], exclude_characters="Σ")
TEXT = st.text(st.one_of(KNOWN, st.sampled_from("aehist .,!?<>[]1'\n\t\u00a0\x1c\u0301İ")))
ANY = st.lists(st.one_of(TEXT, st.text(), st.sampled_from([*SPECIALS, *TEXTS])), max_size=4).map(" ".join)


def fitted(name: str, mode: str, texts: list[str] = TEXTS) -> Tokenizer:
    return CONFIGS[name].fit((normalise(text, mode) for text in texts), mode)
