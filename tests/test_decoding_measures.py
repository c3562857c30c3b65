"""benchmarks/decoding.py: its measures on texts counted by hand, and the whole of it on a tiny run."""

import csv
import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_config, write_documents

from benchmarks.measures import bleu, copied, count, distinct, known, repetition, self_bleu
from nanolm.config import build
from nanolm.errors import NanolmError
from nanolm.generator import load
from nanolm.runs.run import Run
from nanolm.scoring.speller import Speller
from nanolm.tokenizer.base import BOS, EOS
from nanolm.training.train import train

ROOT = Path(__file__).resolve().parents[1]


def test_repetition_is_within_a_text() -> None:
    loop = list("abcdabcd")  # abcd bcda cdab dabc abcd
    assert repetition([loop]) == pytest.approx(1 / 5)
    assert repetition([["a"] * 7]) == pytest.approx(3 / 4)
    assert repetition([list("abcd"), list("abcd")]) == 0
    assert repetition([loop, ["short"], list("abcdefgh")]) == pytest.approx(1 / 10)  # one has no 4-gram: left out
    assert math.isnan(repetition([["a", "b", "c"]]))


def test_distinct_reads_equally_many_words() -> None:
    texts = [list("abab"), list("bac")]
    assert distinct(texts, 1, 100) == pytest.approx(3 / 7)
    assert distinct(texts, 2, 100) == pytest.approx(3 / 7)  # ab ba ac: none reaches over the end of a text
    assert distinct(texts, 1, 6) == pytest.approx(2 / 6)
    assert distinct(texts, 2, 2) == pytest.approx(1 / 2)
    assert math.isnan(distinct([[]], 1, 5))


def test_copying_counts_what_a_document_has() -> None:
    text, other = list("abcdefghij"), list("abcdefgh")
    documents = [list("xabcdefghix"), list("hij")]
    seen = known([text, other], documents)
    assert seen == {tuple("abcdefgh"), tuple("bcdefghi")}
    assert copied([text], seen) == pytest.approx(2 / 3)
    assert copied([text, other], seen) == pytest.approx(3 / 4)
    assert math.isnan(copied([list("short")], seen))


def test_bleu_by_hand() -> None:
    text, near, far = (count(words.split()) for words in ("a a b c d", "a b c d e", "x y"))
    matches = [4 / 5, 3 / 4, 2 / 3, 1 / 2]  # the second a is clipped
    assert bleu(text, [near, far]) == pytest.approx(math.prod(matches) ** 0.25)
    assert bleu(text, [text]) == pytest.approx(1)
    assert bleu(text, [far]) == 0
    short = count(list("ab"))
    smoothed = (2 / 2 * 1 / 1 * 0.1 / 1 * 0.1 / 1) ** 0.25
    assert bleu(short, [near]) == pytest.approx(smoothed * math.exp(1 - 5 / 2))  # it is too brief


def test_self_bleu_is_of_each_text_against_the_others() -> None:
    same, other = list("abcde"), list("vwxyz")
    assert self_bleu([same, same, same]) == pytest.approx(1)
    assert self_bleu([same, same, other]) == pytest.approx(2 / 3)
    assert self_bleu([same, other, same, same], most=2) == 0
    assert self_bleu([same, [], same]) == pytest.approx(1)
    assert math.isnan(self_bleu([same, []]))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run, half of whose words are unknown to it."""
    folder = tmp_path_factory.mktemp("decoding")
    write_documents(folder / "text.txt", 150)
    words = build("tokenizer", {"name": "word", "minfreq": 20})
    train(tiny_config(folder, tokenizer=words, data={"test": 0.3}, epochs=1, model={"nblocks": 1}, precision="fp32"))
    return folder / "out"


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module that finds its neighbours."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("decoding")


def test_every_strategy_has_its_row(outputs: Path, decoding: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = outputs / "results" / "table.csv"
    decoding.compare("latest", 4, out, outputs)
    with open(out, newline="") as file:
        rows = {row.pop("strategy"): row for row in csv.DictReader(file)}
    assert list(rows) == ["human", *decoding.STRATEGIES]
    assert rows["human"]["ended"] == "1.0000"
    assert rows["beam 1"] == rows["greedy"] != rows["temperature 1.0"]
    assert all(float(row["logprob"]) < 0 and 0 <= float(row["repetition"]) < 1 for row in rows.values())
    assert float(rows["beam 4, no-repeat 3"]["repetition"]) == 0
    shown, page = capsys.readouterr().out, out.with_suffix(".md").read_text()
    assert "4 test documents" in shown
    assert "greedy's very tokens in 6 of 6 texts" in shown
    assert "| human |" in shown
    for context in decoding.CONTEXTS:
        assert page.count(f": {context}") == len(decoding.STRATEGIES)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_human_text_is_scored_as_the_model_reads_it(outputs: Path, decoding: Any) -> None:
    writer = load("latest", outputs, device="cpu", precision="fp32")
    run = Run.open(str(writer.run))
    split, pairs = decoding.held_out(run.corpus(outputs / "cache"), writer, 3)
    human, room = decoding.by_authors(writer, run, pairs)
    assert split == "test"
    assert len(pairs) == len({head for head, _ in pairs}) == 3
    assert human.texts == [rest.split() for _, rest in pairs]
    assert room == max(map(len, human.texts)) + 1
    nats, unknown = 0.0, [word for _, rest in pairs for word in writer.tokenizer.unknown(rest.strip())]
    for head, rest in pairs:
        assert len(head.split()) == 8
        ids = torch.tensor([[BOS, *writer.tokenizer.encode(head + rest), EOS]])
        nats += float(writer.model.nats(ids[:, :-1], ids[:, 1:])[0, 8:].sum())
    speller = Speller.load(run.file("speller.json"))
    assert unknown
    assert human.nats == pytest.approx(-nats - math.log(2) * sum(map(speller.bits, unknown)), rel=1e-5)


def test_one_beam_that_is_not_greedy_is_told(outputs: Path, decoding: Any) -> None:
    writer = load("latest", outputs, device="cpu", precision="fp32")
    greedy, chance = (
        writer.complete(["ada finds"], name, seed=1, max_new_tokens=9)[0] for name in ("greedy", "sample")
    )
    assert "in 1 of 1" in decoding.same_as_greedy(writer, ["ada finds"], {"greedy": greedy, "beam 1": greedy})
    with pytest.raises(AssertionError, match="one beam is not greedy"):
        decoding.same_as_greedy(writer, ["ada finds"], {"greedy": greedy, "beam 1": chance})


def test_what_cannot_be_compared_is_refused(outputs: Path, decoding: Any, tmp_path: Path) -> None:
    for run, documents, match in (("nowhere", 4, "no run folder"), ("latest", 0, "documents=0")):
        with pytest.raises(NanolmError, match=match):
            decoding.compare(run, documents, tmp_path / "table.csv", outputs)
