"""A stranger's files: no code of theirs runs, no path of theirs is followed, their words do nothing in the terminal."""

import ast
import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import untrained
from conftest import posix_only
from tiny_run import tiny_config

from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.data.files import Files
from nanolm.data.readers import delimited, lines, text
from nanolm.errors import DataError, NanolmError, RunError
from nanolm.export.export import export
from nanolm.files import sha256, write_json
from nanolm.runs.run import Run
from nanolm.text import escape_controls
from nanolm.training.config import TrainConfig
from nanolm.training.resume import resumed

ROOT = Path(__file__).resolve().parents[1]
# names that run code out of a file, or open one without checks
FORBIDDEN = {
    "pickle",
    "cPickle",
    "dill",
    "shelve",
    "marshal",
    "joblib",
    "yaml",
    "torch.load",
    "torch.save",
    "eval",
    "exec",
}
FORBIDDEN |= {
    "os.system",
    "os.popen",
    "__import__",
    "numpy.fromfile",
    "np.fromfile",
    "torch.hub",
    "read_pickle",
    "instantiate",
}
SOURCES = [*(ROOT / "nanolm").rglob("*.py"), *ROOT.glob("*.py")]


def used(tree: ast.AST) -> set[str]:
    """Every name, dotted name, keyword and imported module of a source."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found |= {
                ast.unparse(node),
                f".{node.attr}",
                node.attr if node.attr in ("read_pickle", "instantiate") else "",
            }
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(f"{node.arg}=")
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
    return found


def test_nothing_can_run_code_out_of_a_file() -> None:
    assert {"pickle", "torch.load", "allow_pickle=", "eval"} <= used(
        ast.parse("import pickle.x; torch.load(a); np.load(a, allow_pickle=True); eval(b)")
    )
    for path in SOURCES:
        names = used(ast.parse(path.read_text()))
        assert not names & (FORBIDDEN | {"allow_pickle=", "shell=", "trust_remote_code="}), path
        assert "_target_" not in path.read_text(), path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return untrained.run(tmp_path)


def signed(run: Run, **config: Any) -> Run:
    """The run with other values in its config, and the checksum that a stranger would give it."""
    write_json(run.folder / "config.json", run.config | config)
    run.list_files("config.json")
    return Run.open(run.folder)


@posix_only
@pytest.mark.parametrize("name", ["config.json", "metrics.csv", ".lock", "samples.txt", "best.safetensors"])
def test_links_and_pipes_are_refused(run: Run, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(secret)
    with pytest.raises(RunError, match=rf"{name}: is a link"):
        Run.open(run.folder)
    (run.folder / name).unlink()
    os.mkfifo(run.folder / name)
    with pytest.raises(RunError, match=rf"{name}: is a link or no file"):
        Run.open(run.folder)
    assert secret.read_text() == "mine"


def test_paths_in_a_manifest_are_never_followed(run: Run, tmp_path: Path) -> None:
    run.manifest["files"] |= {"../../text.txt": "0" * 64, "/etc/passwd": "0" * 64}
    run.list_files()
    assert untrained.tokenizer().vocabulary == Run.open(run.folder).tokenizer().vocabulary


@pytest.mark.parametrize("value", [None, 5, "x", [], [["a"]], {"path": "os"}, {"_target_": "os.system"}])
@pytest.mark.parametrize("key", ["model", "data", "tokenizer", "decode", "optim", "tracking"])
def test_a_config_of_the_wrong_shape_is_one_line(run: Run, key: str, value: Any) -> None:
    opened = signed(run, **{key: value})
    with pytest.raises(NanolmError) as caught:
        resumed(TrainConfig(resume=str(opened.folder)), ["epochs=9"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, [], "x"])
def test_a_config_or_manifest_that_is_no_table_is_one_line(run: Run, value: Any) -> None:
    write_json(run.folder / "config.json", value)
    run.list_files("config.json")
    with pytest.raises(RunError, match=r"config\.json: holds no config"):
        Run.open(run.folder)
    write_json(run.folder / "manifest.json", value)
    with pytest.raises(RunError, match=r"manifest\.json: damaged"):
        Run.open(run.folder)


def test_a_resumed_stranger_chooses_neither_outputs_nor_uploads(run: Run, tmp_path: Path) -> None:
    tracking = {"name": "online", "project": "x", "entity": "stranger"}
    strange = signed(run, outputs="/somewhere/else", tracking=tracking)
    mine = tiny_config(tmp_path, resume=str(strange.folder), outputs=str(tmp_path / "out"))
    _, config = resumed(mine, ["epochs=9"])
    assert config.outputs == str(tmp_path / "out")
    assert config.tracking.name == "disabled"
    _, config = resumed(tiny_config(tmp_path, resume=str(signed(run, outputs=str(tmp_path)).folder)), ["epochs=9"])
    assert config.outputs == str(tmp_path), "a run that lies in its outputs keeps them"


def test_a_stranger_s_run_makes_nobody_fetch_an_address(run: Run, tmp_path: Path) -> None:
    strange = signed(run, data=run.config["data"] | {"path": "http://127.0.0.1:9/text.txt"})
    with pytest.raises(RunError, match="isn't fetched because a run says so"):
        strange.corpus(tmp_path / "cache")
    with pytest.raises(RunError, match="isn't fetched because a run says so"):
        resumed(tiny_config(tmp_path, resume=str(strange.folder)), ["epochs=9"])


@pytest.mark.parametrize("lie", [{"dims": 2**20}, {"nblocks": 999}, {"context": None}, {"hidden": 2**20}, 5])
def test_an_export_that_lies_about_its_size_allocates_nothing(run: Run, tmp_path: Path, lie: Any) -> None:
    pytest.importorskip("gradio")
    from nanolm.app.space import load_space

    folder = export(str(run.folder), "space", str(tmp_path / "space"), None, str(run.folder.parent))
    assert load_space(folder).generate("the army", "greedy")
    values = json.loads((folder / "model.json").read_text())
    write_json(folder / "model.json", values | lie if isinstance(lie, dict) else lie)
    with pytest.raises(NanolmError):
        load_space(folder)


def test_a_packed_file_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delimited, lines, text):
        monkeypatch.setattr(module, "LONGEST", 2**16)
    bombs = {"line": bytes(10**6), "file": b"a\n" * 10**5, "paragraph": b"a\n" * 10**5}
    for document, data in bombs.items():
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(data))
        with pytest.raises(DataError, match=r"a\.txt\.gz: .* more than 65,536"):
            list(Files(path=str(tmp_path / "a.txt.gz"), document=document).documents(Counter()))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b'text\n"' + b"a\n" * 10**5))
    with pytest.raises(DataError, match=r"a\.csv\.gz: line .*field limit"):
        list(Files(path=str(tmp_path / "a.csv.gz")).documents(Counter()))


def test_words_of_a_run_do_nothing_in_the_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x1b]0;owned\x07\r\u202e<b>"
    config = run.config | {"model": run.config["model"] | {"name": nasty}}
    signed(run, **config)
    status = json.loads((run.folder / "status.json").read_text())
    write_json(run.folder / "status.json", status | {"state": nasty, "error": nasty})
    compare(CompareConfig(outputs=str(run.folder.parent), baselines=False))
    said = capsys.readouterr().out
    assert "owned" in said
    assert said == escape_controls(said)
    assert sha256(run.folder / "config.json") == Run.open(run.folder).manifest["files"]["config.json"]
