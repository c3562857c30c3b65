"""device=mps, verb by verb, on a stand-in: every branch on the device is gone through, nothing is run there."""

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchgen
import yaml
from stand_in import OnMps, mps_stand_in, operations
from tiny_run import rows, tiny_config

from nanolm.cli.attend import attend
from nanolm.cli.benchmark import benchmark
from nanolm.cli.evaluate import evaluate
from nanolm.cli.generate import generate
from nanolm.cli.look import look
from nanolm.config import build
from nanolm.errors import ConfigError
from nanolm.export.export import export
from nanolm.generator import load
from nanolm.runs.run import LAST, Run
from nanolm.runs.weights import read_weights
from nanolm.sweep.launch import prepare
from nanolm.training import step
from nanolm.training.plan import keep_random
from nanolm.training.setup import set_up
from nanolm.training.speed import measure_speed
from nanolm.training.train import train

PROMPTS = ["ada finds a ship", "bert", ""]
HEAVY: dict[str, Any] = {"model": {"dropout": 0.2, "kv_heads": 1, "mlp": "relu2"}, "ema": 0.9, "accumulate": 2}
# Kernels that a CPU has instead of those of mps
CPU_OWN = {f"aten::_scaled_dot_product_flash_attention_for_cpu{way}" for way in ("", "_backward")}


@pytest.fixture(autouse=True)
def mps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine has the device meanwhile; torch has every operation for it that was wanted of the stand-in."""
    with mps_stand_in(monkeypatch):
        yield
    assert sorted(operation for operation in operations - CPU_OWN if not has_kernel(operation)) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on the stand-in."""
    folder = tmp_path_factory.mktemp("mps")
    with pytest.MonkeyPatch.context() as patch, mps_stand_in(patch):
        train(tiny_config(folder, device="mps", samples=2), folder=folder / "out" / "run")
    return folder / "out" / "run"


def test_the_stand_in_refuses_what_the_device_refuses() -> None:
    here, there = torch.ones(3), torch.ones(3, device="mps")
    assert (there.device.type, type(there + 1.0), type(there.cpu())) == ("mps", OnMps, torch.Tensor)
    with pytest.raises(RuntimeError, match="cpu and mps:0"):
        here + there
    with pytest.raises(TypeError, match="float64"):
        there.double()
    with pytest.raises(TypeError, match="float64"):
        torch.from_numpy(np.ones(3)).to("mps")
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


@pytest.mark.parametrize(("optim", "fields"), [("adam", HEAVY), ("adamw", {}), ("muon", HEAVY)])
def test_a_training_gives_what_a_cpu_s_gives(tmp_path: Path, optim: str, fields: dict[str, Any]) -> None:
    how = {"optim": {"name": optim}, "epochs": 1, "precision": "fp32", **fields}
    if fields:  # draws of dropout are the device's own
        how["model"] = how["model"] | {"dropout": 0.0}
    train(tiny_config(tmp_path, device="mps", **how), folder=tmp_path / "mps")
    there = rows(tmp_path / "mps")
    train(tiny_config(tmp_path, device="cpu", **how), folder=tmp_path / "cpu")
    for row, own in zip(there, rows(tmp_path / "cpu"), strict=True):
        assert {name: float(value or 0) for name, value in row.items()} == pytest.approx(
            {name: float(value or 0) for name, value in own.items()}, rel=2e-3
        )
    environment = json.loads((tmp_path / "mps" / "environment.json").read_text())
    assert environment["device"] == "mps"


def test_bf16_by_name_warns_and_is_done(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="precision=bf16: mps may lack"):
        train(tiny_config(tmp_path, device="mps", precision="bf16", epochs=1), folder=tmp_path / "run")
    assert Run.open(tmp_path / "run").finished()


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, device="mps", **HEAVY | {"epochs": 2})
    train(config, folder=tmp_path / "whole")
    train(config, folder=tmp_path / "parts", until=0.5)
    torch.manual_seed(99)
    train(replace(config, resume=str(tmp_path / "parts")))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_what_measures_leaves_the_random_numbers(tmp_path: Path) -> None:
    setup = set_up(tiny_config(tmp_path, device="mps"))
    before = torch.mps.get_rng_state()
    with keep_random(setup):
        torch.rand(3, device="mps")
    assert torch.equal(torch.mps.get_rng_state(), before)
    train(tiny_config(tmp_path, device="mps", minutes=0.01, epochs=1), folder=tmp_path / "run")
    assert Run.open(tmp_path / "run").finished()


def test_the_last_good_state_outlives_an_explosion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = step.gradient, iter(range(1, 1000))

    def poison(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nats, norm = original(*args)
        if next(calls) == 10:
            norm = norm * math.nan
            for weight in args[0].model.parameters():
                weight.grad.fill_(math.nan)
        return nats, norm

    monkeypatch.setattr(step, "gradient", poison)
    with pytest.raises(step.Diverged, match="step 10"):
        train(tiny_config(tmp_path, device="mps"), folder=tmp_path / "run")
    tensors, _ = read_weights(tmp_path / "run" / LAST)
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())


@pytest.mark.parametrize("name", ["greedy", "beam", "sample"])
def test_it_writes_what_a_cpu_writes(run: Path, name: str) -> None:
    decode = build("decode", {"name": name, "max_new_tokens": 40, "overflow": "slide"})
    if name == "beam":
        decode = replace(decode, num_beams=4, num_return_sequences=2)
    if name == "sample":
        decode = replace(decode, num_return_sequences=3, top_k=20, top_p=0.95, min_p=0.01, repetition_penalty=1.2)
    there = load(run, device="mps").generate(PROMPTS, decode, seed=1)
    assert there == load(run, device="cpu").generate(PROMPTS, decode, seed=1)


def test_generate_py(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(str(run), "ada", build("decode", {"name": "sample", "max_new_tokens": 5}), seed=1, device="mps")
    assert capsys.readouterr().out.startswith("ada")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.filterwarnings("ignore:precision=bf16")
def test_evaluate_py(run: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = evaluate(str(run), outputs=run.parent, device="mps", precision=precision)
    assert there.bpb == pytest.approx(Run.open(run).status()["test_bpb"], rel=1e-5 if precision == "fp32" else 2e-2)


def test_evaluate_py_benchmark(run: Path) -> None:
    pairs = run.parent / "pairs.jsonl"
    pairs.write_text('{"good": "ada finds a ship", "bad": "a ship finds ada"}\n')
    there, here = (benchmark(str(run), str(pairs), run.parent, device=device) for device in ("mps", "cpu"))
    assert there.equals(here)


def test_attend_py_and_look_py(run: Path) -> None:
    sample = build("decode", {"name": "sample", "max_new_tokens": 9})
    for device in ("mps", "cpu"):
        attended = attend(str(run), "ada finds", sample, 1, outputs=run.parent / device, device=device)
        looked = look(str(run), "ada finds a ship", documents=2, outputs=run.parent / device, device=device)
    for folder, name in ((attended, "heads.csv"), (looked, "heads.csv"), (looked, "parts.csv")):
        here = (folder / name).read_text()
        there = (run.parent / "mps" / folder.relative_to(run.parent / "cpu") / name).read_text()
        assert there.splitlines()[0] == here.splitlines()[0]
        assert len(there.splitlines()) == len(here.splitlines()) > 2


def test_the_app_writes(run: Path) -> None:
    pytest.importorskip("gradio")
    from nanolm.app.models import Models
    from nanolm.app.write import write

    models = Models(run.parent, str(run), "mps")
    decode = build("decode", {"name": "sample", "max_new_tokens": 5})
    [*_, (cards, texts)] = write(models, run.name, "ada", [decode], 1)
    assert "ada" in cards
    assert (texts[0].prompt + texts[0].new) == load(run, device="cpu").generate("ada", decode, seed=1)


def test_quantized(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quantize=int8: is for the CPU, not mps"):
        load(run, device="mps", quantize="int8")
    assert load(run, device="mps", quantize="bf16").generate("ada", "greedy", max_new_tokens=3).startswith("ada")
    export(str(run), "int8", str(tmp_path / "int8"), None, str(run.parent))
    with pytest.raises(ConfigError, match=r"device=mps: the weights of .* are int8, for the CPU"):
        load(tmp_path / "int8", device="mps")


def test_it_is_exported_as_any_other(run: Path, tmp_path: Path) -> None:
    export(str(run), "hf", str(tmp_path / "hf"), None, str(run.parent))
    assert (tmp_path / "hf" / "model.safetensors").exists()


def test_a_job_of_a_sweep(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, device="mps", epochs=1)
    task = prepare(lambda: config, tmp_path / "job", None, 1.0)
    assert task
    task.call(train)()
    assert Run.open(tmp_path / "job").finished()
    found = list[Any]()
    results = type("Pipe", (), {"send": staticmethod(found.append)})
    measure_speed(config, 1, threading.Barrier(1), results)
    assert found[0]["gpus"] == 0
    assert found[0]["tokens_per_s"] > 0


def test_a_lacking_kernel_is_found() -> None:
    assert not has_kernel("aten::_linalg_svd")
    assert all(map(has_kernel, ("aten::mm", "aten::_softmax", "aten::rms_norm", "aten::cumsum")))


@cache
def listed() -> dict[str, Any]:
    """torch's own list of operations: for each, which devices have a kernel for it."""
    file = Path(torchgen.__file__).with_name("packaged") / "ATen/native/native_functions.yaml"
    entries = yaml.load(file.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].partition("(")[0]: entry for entry in entries}


def has_kernel(operation: str) -> bool:
    """Whether mps has a kernel for the operation, or it is made of others."""
    entry = listed()[operation.removeprefix("aten::")]
    if "structured_delegate" in entry:
        return has_kernel(entry["structured_delegate"])
    kernels = [key.strip() for keys in entry.get("dispatch", {}) for key in keys.split(",")]
    return not kernels or "MPS" in kernels or any(key.startswith("Composite") for key in kernels)
