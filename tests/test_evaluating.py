"""evaluate.py's verb: the run's own split or any other text, a table, and files whose sums are the score."""

import csv
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanolm.cli.arguments import of_moved_text
from nanolm.cli.evaluate import evaluate
from nanolm.config import plain
from nanolm.corpus.corpus import fit_tokenizer, load_corpus
from nanolm.data.files import Files
from nanolm.errors import ConfigError, DataError, NanolmError, RunError
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights
from nanolm.scoring.score import Score
from nanolm.scoring.speller import corpus_speller
from nanolm.tokenizer.word import WordConfig

LINES = [f"{a} {verb} {b}, {thing}" for a in ("ann", "bob", "cy") for verb in ("met", "lost", "saw", "fed")
         for b in ("dee", "eve") for thing in ("a dog", "one map", "his hat .", "it", "the zoo")]  # fmt: skip


def make_run(folder: Path, **data: Any) -> Path:
    """A run folder with a random model, as training leaves it."""
    (folder / "text.txt").write_text("\n".join(LINES))
    source = Files(path=str(folder / "text.txt"), **{"val": 0.2, "test": 0.2} | data)
    corpus = load_corpus(source, folder / "cache")
    tokenizer = fit_tokenizer(WordConfig(minfreq=9), corpus, folder / "cache")
    shape = ModelConfig(dims=16, heads=2, nblocks=1, context=8, dropout=0.5)
    config = {"data": plain(source), "model": plain(shape)}
    writers = {"tokenizer.json": tokenizer.save, "speller.json": corpus_speller(corpus).save}
    run = Run.create(folder / "run", config, {}, writers)
    torch.manual_seed(0)
    write_weights(run.folder / BEST, Transformer(shape, len(tokenizer), 8).state_dict(), {})
    run.update_status(state="finished", corpus=corpus.fingerprint)
    return run.folder


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_files(folder: Path, score: Score) -> list[dict[str, str]]:
    """The rows of tokens.csv, once they and documents.csv are known to sum to the score."""
    tokens, documents = read(folder / "tokens.csv"), read(folder / "documents.csv")
    assert len(tokens) == score.tokens
    assert sum(float(row["logprob"]) for row in tokens) == pytest.approx(-score.nats)
    assert np.allclose([float(row["bits"]) for row in documents], score.bits)
    assert [int(row["bytes"]) for row in documents] == score.bytes.tolist()
    for i, row in enumerate(documents):
        own = [token for token in tokens if token["document"] == str(i)]
        assert [token["position"] for token in own] == list(map(str, range(int(row["tokens"]))))
        model_bits = -sum(float(token["logprob"]) for token in own) / math.log(2)
        assert model_bits + float(row["spelling_bits"]) == pytest.approx(float(row["bits"]))
    return tokens


def test_its_own_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    score = evaluate(str(run), outputs=tmp_path, device="cpu")
    corpus = load_corpus(Run.open(run).data(), tmp_path / "cache")
    assert np.array_equal(score.bytes, corpus.nbytes("test"))
    (folder,) = (tmp_path / "evaluations").iterdir()
    check_files(folder, score)
    out = capsys.readouterr().out
    for word in (
        f"{score.bpb:.4f}",
        "same tokenizer only",
        str(folder),
        "the test split",
    ):
        assert word in out
    assert "bf16" not in out
    assert "floor" not in out  # nobody knows it for files
    assert evaluate(str(run), split="val", outputs=tmp_path, device="cpu").bpb != score.bpb


def test_bf16_is_asked_for_by_name_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    usual = evaluate(str(run), outputs=tmp_path, device="cpu")
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this CPU may lack the instructions
        rough = evaluate(str(run), outputs=tmp_path, device="cpu", precision="bf16")
    assert 0 < abs(usual.bpb - rough.bpb) < 0.05
    assert "in bf16: not to be compared" in capsys.readouterr().out


def test_other_text_is_scored_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = make_run(tmp_path), tmp_path / "other.txt"
    other.write_text('Ann met "Dee", & a <b>Zébra</b>!\nann met\nann met\n\n' + "bob saw the dog and " * 30)
    data = Files(path=str(other))
    score = evaluate(str(run), data, outputs=tmp_path, device="cpu")
    texts = ["ann met dee a b zébra b .", "ann met", "ann met", ("bob saw the dog and " * 30).strip()]
    assert score.bytes.tolist() == [len(text.encode()) + 1 for text in texts]
    assert score.tokens == sum(len(text.split()) + 1 for text in texts)
    assert score.bits[1] == score.bits[2]
    tokens = check_files(next((tmp_path / "evaluations").glob("run-files-*")), score)
    assert [row["token"] for row in tokens if row["document"] == "1"] == ["ann", "met", "<EOS>"]
    assert score.unknown == sum(row["token"] == "<UNK>" for row in tokens) > 0
    assert "all of data=files" in capsys.readouterr().out


def test_tokens_that_csv_would_trip_over(tmp_path: Path) -> None:
    run, other = make_run(tmp_path, normalise="none"), tmp_path / "other.jsonl"
    other.write_text('{"text": "ann, met\\n\\"dee\\" \\r\\u0000, \\nann"}')
    data = Files(path=str(other))  # data.normalise=clean is the default, the run's own is meant
    score = evaluate(str(run), data, outputs=tmp_path, device="cpu")
    tokens = check_files(next((tmp_path / "evaluations").iterdir()), score)
    assert [row["token"] for row in tokens][:3] == ["ann", ",", " "]


def test_the_runs_own_text_may_have_moved(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    usual: dict[str, Any] = {"outputs": tmp_path, "device": "cpu"}
    before = evaluate(str(run), **usual)
    (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    with pytest.raises(DataError, match=r"text\.txt.*; if it has moved, give data\.path=NEW"):
        evaluate(str(run), **usual)
    assert evaluate(str(run), path=str(tmp_path / "moved.txt"), **usual).bits.tolist() == before.bits.tolist()
    (tmp_path / "other.txt").write_text("\n".join(LINES[1:]))
    with pytest.raises(RunError, match=r"^data\.path=.*other\.txt: not the text .* was trained on; .*data=files"):
        evaluate(str(run), path=str(tmp_path / "other.txt"), **usual)
    with pytest.raises(ConfigError, match="leave it or data out"):
        evaluate(str(run), Files(path="x"), path="x", **usual)


def test_the_door_takes_a_moved_path_without_data() -> None:
    words = ["run=x", "data.path=new.txt"]
    assert of_moved_text("evaluate", words) == ["run=x", "path=new.txt"]
    assert of_moved_text("evaluate", [*words, "data=files"]) == [*words, "data=files"]
    assert of_moved_text("train", [*words, "resume=x"]) == ["data=files", *words, "resume=x"]
    assert of_moved_text("train", words) == words


def test_other_text_is_read_the_way_the_runs_own_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = make_run(tmp_path, document="paragraph"), tmp_path / "other.txt"
    other.write_text("ann met dee\nbob saw eve\n\ncy lost it\n")
    usual: dict[str, Any] = {"run": str(run), "outputs": tmp_path, "device": "cpu"}
    score = evaluate(data=Files(path=str(other)), **usual)
    assert len(score.bytes) == 2
    assert "data.document=paragraph" in capsys.readouterr().err
    assert len(evaluate(data=Files(path=str(other)), typed=["data.document"], **usual).bytes) == 3
    assert len(evaluate(data=Files(path=str(other), document="paragraph"), **usual).bytes) == 2
    assert not capsys.readouterr().err


def test_text_that_comes_split_is_scored_by_its_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    parts = {"train": "ann met dee\nann met eve", "val": "bob saw eve", "test": "cy lost it\ncy saw it\ncy fed it"}
    paths: dict[str, Any] = {}
    for name, text in parts.items():
        paths[f"{name}_path"] = str(tmp_path / f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text(text)
    usual: dict[str, Any] = {"run": str(run), "data": Files(**paths), "outputs": tmp_path, "device": "cpu"}
    assert [len(evaluate(split=split, **usual).bytes) for split in ("train", "val", "test")] == [2, 1, 3]
    assert "the test split of data=files" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    text = str(tmp_path / "text.txt")
    usual: dict[str, Any] = {"run": str(run), "outputs": tmp_path, "device": "cpu"}

    def error(kind: type[NanolmError], match: str, **fields: Any) -> None:
        with pytest.raises(kind, match=match) as found:
            evaluate(**(usual | fields))
        assert "\n" not in str(found.value)

    (tmp_path / "evaluations").write_text("")
    error(NanolmError, "evaluations/run-test-.*: can't be made")
    error(ConfigError, r"data\.normalise=none: the run reads clean", data=Files(path=text, normalise="none"))
    error(ConfigError, r"data\.maxlen=5", data=Files(path=text, maxlen=5))
    error(ConfigError, r"data\.limit=5", data=Files(path=text, limit=5))
    error(ConfigError, "split=val: every document", data=Files(path=text), split="val")
    error(ConfigError, "split=tets: must be one of", split="tets")
    error(ConfigError, "precision=auto: must be one of fp32, bf16", precision="auto")
    error(RunError, "nowhere: no run folder", run="nowhere")
    error(DataError, r"missing\.txt", data=Files(path="missing.txt"))
    (run / "speller.json").write_text("[]")
    error(RunError, r"speller\.json: damaged")
    (tmp_path / "text.txt").write_text("\n".join(LINES[:-1]))
    error(RunError, "its data has changed")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    run = make_run(tmp_path, split="tail")
    with pytest.raises(ConfigError, match="split=test: its own data has no test documents; take split=val"):
        evaluate(str(run), outputs=tmp_path, device="cpu")


def test_other_text_that_comes_split_is_scored_by_its_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    parts = {"train": LINES[:9], "val": LINES[9:12], "test": LINES[12:14]}
    paths: dict[str, Any] = {f"{split}_path": str(tmp_path / f"{split}.txt") for split in parts}
    for split, lines in parts.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    for split, lines in parts.items():
        score = evaluate(str(run), Files(**paths), split=split, outputs=tmp_path, device="cpu")
        assert len(score.bytes) == len(lines)
        assert f"the {split} split of data=files" in capsys.readouterr().out
