"""Normalisation: the original's cleaning by example, and what must hold for any string at all."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanolm.text import MODES, counted, join_words, normalise, split_words

# what has ever broken a cleaner: odd lowercase, marks, joiners, selectors, singletons of NFC, Hangul parts, surrogates
ODD = (
    "İıΣςßǅ\u0301\u0307\u0345\u200d\ufe0f\u00ad\ufeff\u212a\u2126\u037e\u0958\u1100\u1161\u11a8\ud800\udfff\0\x1c\u2028"
)
TEXTS = st.text() | st.text(alphabet=ODD + "aA1.!? '-[]\n…")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("The Dog ran! Why?", "the dog ran . why ."),
        ("Everybody left.[1] He came.[citation needed][note 2] [a]End", "everybody left . he came . end"),
        ("In 1999, 3 men", "in men"),
        ("Wait...  what?! \n\t No", "wait . what . no"),
        ("don't, a man's ’tis", "dont a mans tis"),
        ("black-and-white – silent/short", "black and white silent short"),
        ("Amélie Ame\u0301lie Ωmega 東京。", "amélie amélie ωmega 東京 ."),
        ("love ❤️ so\u00adft", "love soft"),
        ("ΑΣ", "ας"),
        ("  ", ""),
        ("", ""),
        ("42", ""),
    ],
)
def test_clean_by_example(raw: str, clean: str) -> None:
    assert normalise(raw, "clean") == clean


@given(TEXTS, st.sampled_from(MODES))
def test_normalise_is_idempotent_and_can_be_written(text: str, mode: str) -> None:
    once = normalise(text, mode)
    assert normalise(once, mode) == once
    assert once.encode().decode() == once


@given(TEXTS)
def test_clean_leaves_letters_dots_and_single_spaces(text: str) -> None:
    clean = normalise(text, "clean")
    assert clean == clean.strip()
    assert "  " not in clean
    assert ". ." not in clean
    assert all(char in " ." or unicodedata.category(char)[0] in "LM" for char in clean)
    assert all(word == "." or "." not in word for word in clean.split(" "))


@given(TEXTS)
def test_none_changes_only_ends_of_lines_and_marks(text: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text.lstrip("\ufeff"))
    assert normalise(text, "none") == expected.replace("\r\n", "\n").replace("\r", "\n")


def test_ends_of_lines_and_marks_mean_the_same_everywhere() -> None:
    for mode in MODES:
        forms = {normalise(f"\ufeffTo be,{end}or not{end}to be", mode) for end in ("\n", "\r\n", "\r")}
        assert forms == {normalise("To be,\nor not\nto be", mode)}


@given(TEXTS, st.sampled_from(MODES))
def test_join_undoes_split(text: str, mode: str) -> None:
    text = normalise(text, mode)
    assert join_words(split_words(text, mode), mode) == text


def test_pieces_of_raw_text_are_words_newlines_spaces_and_signs() -> None:
    assert split_words("To be,\n\n  or not?", "none") == ["To", " ", "be", ",", "\n", "\n", "  ", "or", " ", "not", "?"]


def test_long_runs_take_linear_time() -> None:
    for unit in (" ", ".", " .", "[", "[a ", "a", "\u0301"):
        normalise(unit * 10**6, "clean")


@pytest.mark.slow
def test_clean_is_idempotent_beside_every_character() -> None:
    for code in range(sys.maxunicode + 1):
        for text in (chr(code), f"a{chr(code)}", f"{chr(code)}b", f"e1{chr(code)}"):
            once = normalise(text, "clean")
            assert normalise(once, "clean") == once, hex(code)


def test_one_is_singular() -> None:
    assert [counted(n, "document") for n in (0, 1, 2, 2000)] == [
        "0 documents",
        "1 document",
        "2 documents",
        "2,000 documents",
    ]
