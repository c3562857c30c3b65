"""Where one document ends in plain text: separators, WikiText's articles, prose in lines of one width."""

import textwrap
from collections import Counter
from pathlib import Path

import pytest
from text_files import complaint, documents, put, table

from nanolm.data.files import Files
from nanolm.errors import ConfigError


def test_a_separator_never_becomes_text(tmp_path: Path) -> None:
    stories = "Once.\n\nThere was.\n<|endoftext|>\nTwice.\n<|endoftext|>\n<|endoftext|>Three<|endoftext|>four"
    path = put(tmp_path / "a.txt", stories)
    said = complaint(path)
    assert "holds <|endoftext|>" in said
    assert "data.separator='<|endoftext|>' parts its documents there, data.separator='' takes the mark as text" in said
    expected = ["Once.\n\nThere was.\n", "Twice.\n", "Three", "four"]
    assert documents(path, separator="<|endoftext|>") == expected
    assert len(documents(path, separator="")) == 6
    with pytest.raises(ConfigError, match=r"data\.separator: must stand in one line"):
        Files(path="a", separator="\n\n")


WIKI = """
 = First <unk> =

 It cost 0 @.@ 7 , or 1 @,@ 000 red @-@ tipped ones .

 = = Section = =

 x = y = z
 = not a title , for no line is blank before =

 = Second =

 End .
"""


def test_wikitext_articles(tmp_path: Path) -> None:
    path = put(tmp_path / "wiki.train.tokens", WIKI)
    first, second = documents(path, document="article", unescape=True)
    assert first.startswith(" = First <unk> =\n\n It cost 0.7 , or 1,000 red-tipped ones .\n\n = = Section")
    assert first.rstrip().endswith("= not a title , for no line is blank before =")
    assert second == " = Second =\n\n End .\n"
    rows = {"text": [line if line else "" for line in WIKI.splitlines()]}  # as the Hub has it: a row is a line
    assert documents(put(tmp_path / "a.parquet", table(rows)), document="article", unescape=True) == [first, second]
    [said] = Files(path=str(path)).advice(Counter())
    assert "looks like WikiText; data.document=article makes each article a document" in said
    assert Files(path=str(path), document="article").advice(Counter()) == []


def wrapped(text: str, width: int = 70) -> str:
    return "\n\n".join(textwrap.fill(part, width) for part in text.split("\n\n"))


def test_hard_wrapped_prose_is_noticed(tmp_path: Path) -> None:
    prose = "\n\n".join("It was a long way to the city and nobody had been there for years. " * 6 for _ in range(6))
    one = prose.replace("\n\n", "")
    [said] = Files(path=str(put(tmp_path / "a.txt", wrapped(prose)))).advice(Counter())
    assert "data.document=paragraph takes paragraphs and data.document=file the whole file" in said
    [said] = Files(path=str(put(tmp_path / "b.txt", wrapped(one)))).advice(Counter())
    assert "lines that break within sentences; data.document=file the whole file" in said
    for fine in (prose.replace("\n\n", "\n"), "one\ntwo\n" * 20, "first { a\n  b\n" * 3):
        assert Files(path=str(put(tmp_path / "c.txt", fine))).advice(Counter()) == []
    assert Files(path=str(tmp_path / "a.txt"), document="paragraph").advice(Counter()) == []
