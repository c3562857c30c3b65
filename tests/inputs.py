"""Wrong and odd input, made by hypothesis: any value in any field of any config, any bytes in any kind of file.

Shared by test_inputs.py (a few hundred cases) and benchmarks/faults.py (ten thousand). The fields are read off the
dataclasses, so that a new one is covered by itself.
"""

import dataclasses
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, get_type_hints

from hypothesis import strategies as st

from nanolm.comparing.config import CompareConfig
from nanolm.config import GROUPS, MISSING, build, fill, options
from nanolm.corpus.corpus import DROPPED, encode_corpus, fit_tokenizer, load_corpus
from nanolm.data.files import Files
from nanolm.data.hub import Hub
from nanolm.data.named import Named
from nanolm.errors import NanolmError
from nanolm.model.config import ModelConfig
from nanolm.tokenizer.base import UNK
from nanolm.training.config import TrainConfig

Case = tuple[type, str, str]  # dataclass, its prefix in messages, field
CLASSES = [(cls, group) for group in GROUPS for cls in options(group).values()]
CLASSES += [(ModelConfig, "model"), (TrainConfig, "config"), (CompareConfig, "config")]
NEEDED: dict[type, dict[str, Any]] = {
    Files: {"path": "a.txt"},
    Named: {"path": "a.txt"},
    Hub: {"dataset": "a", "val_split": "b"},
}
FREE = {"path", "name", "column"}  # text of any kind, or of a kind that only the file decides
FIELDS: list[Case] = [
    (cls, prefix, field.name)
    for cls, prefix in CLASSES
    for field in dataclasses.fields(cls)
    if field.default is not MISSING or field.name in get_type_hints(cls)
    if not (cls is TrainConfig and field.default is MISSING)  # the groups, each checked by itself
]

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 10**30, 1e308, -0.0, 5e-324]))
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "null", "1", "true", "${x}", "???", "a\nb", "\0", "\x1b[2J"])
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXTS, st.lists(st.one_of(TEXTS, NUMBERS), max_size=2)
)
VALUES |= st.dictionaries(TEXTS, TEXTS, max_size=1)


def kinds(hint: Any) -> set[Any]:
    """int, float, str, bool, list, None of a field's type."""
    parts = getattr(hint, "__args__", None)
    if getattr(hint, "__origin__", None) is list:
        return {list}
    return {None if part is type(None) else part for part in parts} if parts else {hint}


def check_field(case: Case, value: Any) -> bool:
    """A value in a field is taken, or refused in one line that names the field; whether it was taken.

    What can't be worked with is never taken: another type, nan, infinity, a whole number beyond 64 bits.
    """
    cls, prefix, name = case
    allowed = kinds(get_type_hints(cls)[name])
    try:
        made: Any = fill(cls, NEEDED.get(cls, {}) | {name: value}, prefix)
    except NanolmError as error:
        said = str(error)
        assert name in said, said
        return False
    assert getattr(made, name) == value
    if Any not in allowed:
        assert (None if value is None else type(value)) in allowed | ({int} if float in allowed else set())
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert math.isfinite(value), "a number that is none"
        assert abs(value) < 2**64 or isinstance(value, float)
    return True


LINE = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="ab .,!?\t\r\x00\x1b\u2028\ud800é<EOS>[1]'\"", max_size=40),
    st.sampled_from(
        [
            "",
            " ",
            "the general",
            "the general",
            "<UNK> <EOS>",
            "<|endoftext|>",
            " = Title = ",
            "a <unk> @-@ b",
            "42",
            "...",
            '"',
            "a,b",
            '{"text": "a"}',
        ]
    ),
)
LINES = st.lists(LINE, max_size=12).map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass"))
CONTENT = st.one_of(LINES, LINES, LINES, st.binary(max_size=80))
FILES = st.sampled_from(
    ["a.txt", "a.csv", "a.jsonl", "a.txt.gz", "a.json", "a.tsv", "a.xz", "a.zst", "a.zip", "a.arrow"]
)
HEADS = st.sampled_from([b"", b"", b"text\n", b"id,text\n", b"\xef\xbb\xbftext\n", b'{"text": "a b c"}\n'])
KNOBS = st.fixed_dictionaries(
    {},
    optional={
        "normalise": st.sampled_from(["clean", "none"]),
        "split": st.sampled_from(["hash", "tail"]),
        "document": st.sampled_from(["line", "paragraph", "article", "file"]),
        "separator": st.sampled_from(["", ",", "<|endoftext|>"]),
        "encoding": st.sampled_from(["utf-8", "utf-16", "cp1252"]),
        "charge_unk": st.booleans(),
        "unescape": st.booleans(),
        "val": st.sampled_from([0.0, 0.05, 0.5]),
        "test": st.sampled_from([0.0, 0.3]),
        "dedup": st.booleans(),
        "maxlen": st.sampled_from([1, 3]),
        "limit": st.sampled_from([1, 5]),
    },
)
TOKENIZERS = st.sampled_from([{"name": "word"}, {"name": "word", "minfreq": 2}, {"name": "char"}, {"name": "bpe"}])


def check_text(
    folder: Path, content: bytes, name: str, head: bytes, knobs: dict[str, Any], words: dict[str, Any]
) -> bool:
    """Any file becomes ids whose text comes back, or one line that names the file or the key; whether it did."""
    place = Path(tempfile.mkdtemp(dir=folder))
    path = place / name
    path.write_bytes(head + content)
    try:
        data = build("data", {"name": "files", "path": str(path), **knobs})
        corpus = load_corpus(data, place, needs=("train",))
        config = build("tokenizer", words | ({"vocab_size": 300} if words["name"] == "bpe" else {}))
        tokenizer = fit_tokenizer(config, corpus, place)
        encoded = encode_corpus(corpus, tokenizer, place)
    except NanolmError as error:
        said = str(error)
        assert said
        assert "\n" not in said or str(path) in said
        assert any(word in said for word in (name, "data.", "tokenizer.", "data=")), said
        return False
    counts = Counter(corpus.counts)
    assert counts["read"] == sum(counts[k] for k in DROPPED) + (counts["kept"]) or corpus.notes
    for split, ids in encoded.items():
        for number, text in enumerate(corpus.texts(split)):
            inside = ids.document(number)[1:-1].tolist()
            if UNK not in inside:
                assert tokenizer.decode(inside) == text
            assert inside.count(UNK) == len(tokenizer.unknown(text))
            assert words["name"] != "bpe" or UNK not in inside
    return True
