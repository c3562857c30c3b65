"""Run folders: what opens, what is refused and how, which run is meant."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny_run import tiny_config

from nanolm.errors import NanolmError, RunError
from nanolm.files import write_json
from nanolm.runs import weights
from nanolm.runs.find import find_run
from nanolm.runs.folders import new_folder
from nanolm.runs.run import BEST, LAST, Run
from nanolm.runs.weights import read_weights, write_weights
from nanolm.training import report
from nanolm.training.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_curves", lambda *_: None)
        train(tiny_config(folder, epochs=1), folder=folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "out" / "run"))


def test_a_run_opens_while_another_process_writes_in_it(run: Path) -> None:
    done = threading.Event()

    def write() -> None:  # each writing has a file aside that another process sees, and then doesn't
        while not done.is_set():
            write_json(run / "notes.json", {})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            Run.open(run)
    finally:
        done.set()
        writer.join()


def test_a_run_gives_back_its_model_and_tokenizer(run: Path) -> None:
    opened = Run.open(run)
    model = opened.model("best")
    weights, note = read_weights(run / BEST)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training
    assert note["step"] > 0
    assert len(opened.tokenizer()) == model.vocab_size == opened.status()["vocabulary"]
    assert opened.data().name == "files"
    assert opened.model("last").state_dict().keys() == weights.keys()


def test_before_an_evaluation_the_last_weights_are_taken(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / BEST).unlink()
    Run.open(run).model("best")
    assert "not evaluated yet" in capsys.readouterr().err
    (run / LAST).unlink()
    with pytest.raises(RunError, match=r"best\.safetensors: missing; .*resume="):
        Run.open(run).model("best")


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "missing"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "manifest.json", BEST])
def test_damage_is_one_line_that_names_the_file(run: Path, name: str, damage: str) -> None:
    path = run / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    contents = {"empty": b"", "cut": bytes(data[: len(data) // 3]), "flip": bytes(data)}
    if damage == "missing":
        path.unlink()
        (run / LAST).unlink(missing_ok=True)
    else:
        path.write_bytes(contents[damage])
    if (name, damage) == ("manifest.json", "flip"):
        path.write_text(path.read_text().replace("format", "fxrmat"))
    says = "run format" if (name, damage) == ("manifest.json", "flip") else name.replace(".", r"\.")
    with pytest.raises(NanolmError, match=says) as caught:
        Run.open(run).model("best")
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(RunError, match=r"format 99.*update nanolm"):
        Run.open(run)


def write_config(run: Run, config: dict[str, Any]) -> None:
    write_json(run.folder / "config.json", config)
    run.list_files("config.json")


def test_config_text_is_never_interpolated(run: Path) -> None:
    opened = Run.open(run)
    write_config(opened, opened.config | {"run_name": "${oc.env:HOME}"})
    assert Run.open(run).config["run_name"] == "${oc.env:HOME}"


def test_what_a_resumed_run_was_given_anew_counts(run: Path) -> None:
    opened = Run.open(run)
    opened.manifest["changed"] = {"epochs": 99}
    opened.list_files()
    assert Run.open(run).config == opened.config | {"epochs": 99}


def test_a_config_that_lies_about_the_model_allocates_nothing(run: Path) -> None:
    opened = Run.open(run)
    config = opened.config
    lies = ({"dims": 2**20}, {"nblocks": 999}, {"context": None}, {"dims": 32}, {"dims": 2**30}, {"nblocks": 10**9})
    for number, lie in enumerate(lies):
        write_config(opened, config | {"model": config["model"] | lie})
        says = r"best\.safetensors: its weights are not those" if number < 4 else r"model\.\w+=.*: must be"
        with pytest.raises(NanolmError, match=says):
            Run.open(run).model()


def test_weights_check_themselves(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a/x": torch.randn(3, 4), "b": torch.tensor(2.0), "c": torch.zeros(2, dtype=torch.bfloat16)}
    write_weights(path, tensors, {"step": 3})
    back, note = read_weights(path)
    assert note == {"step": 3}
    assert all(torch.equal(tensors[name], back[name]) for name in tensors)
    assert list(read_weights(path, "a/")[0]) == ["x"]
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        broken = bytearray(data)
        broken[place] ^= 16
        path.write_bytes(broken)
        with pytest.raises(RunError, match="damaged"):
            read_weights(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(RunError, match="not a file of nanolm's"):
        read_weights(path)


def fake_run(folder: Path, age: float, corpus: str, value: float | None, weights: bool = True) -> Path:
    run = Run.create(folder, {}, {}, {})
    run.update_status(state="finished", corpus=corpus, val_bpb=value)
    if weights:
        (folder / BEST).write_bytes(b"")
        os.utime(folder / BEST, (age, age))
    return folder


def test_weights_are_as_readable_as_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_weights(tmp_path / "a", {"x": torch.ones(2)}, None)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_disk_that_is_full_is_one_line_and_leaves_the_old_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    write_weights(tmp_path / "a", {"x": torch.ones(2)}, 1)
    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(NanolmError, match=r"a: can't be written: .*No space left on device.*; check free space"):
        write_weights(tmp_path / "a", {"x": torch.zeros(2)}, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert read_weights(tmp_path / "a")[1] == 1


def test_which_run_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"no run with weights under .*: python train\.py makes one"):
        find_run("latest", tmp_path)
    old = fake_run(tmp_path / "old", 1, "a", 1.5)
    nested = fake_run(tmp_path / "sweeps" / "grid" / "job", 3, "a", 1.2)
    other = fake_run(tmp_path / "other", 2, "b", 0.5)
    fake_run(tmp_path / "none", 9, "a", 0.1, weights=False)
    fake_run(tmp_path / "wandb" / "x", 9, "a", 0.1)
    assert find_run("latest", tmp_path) == nested
    assert find_run("best", tmp_path) == nested
    os.utime(old / BEST, (9, 9))
    assert find_run("latest", tmp_path) == old
    assert find_run("best", tmp_path) == nested
    assert find_run(str(other), tmp_path) == other == find_run("other", tmp_path)
    (nested / "status.json").write_text("")
    assert find_run("best", tmp_path) == old
    assert "left out" in capsys.readouterr().err
    with pytest.raises(RunError, match="nowhere: no run folder"):
        find_run("nowhere", tmp_path)


def test_folders_are_unique(tmp_path: Path) -> None:
    made = {new_folder(tmp_path, "small", "word", "../../a b\n") for _ in range(5)}
    assert len(made) == 5
    assert all(path.parent == tmp_path and path.is_dir() for path in made)


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"outputs=.*can't be written"):
        new_folder(tmp_path / "file", "small")
