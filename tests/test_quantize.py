"""Weights in int8 and bf16: the product against float64, the model, the door, the exported folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
import untrained
from tiny_model import CONTEXT, ORIGINAL, VOCABULARY, build, ids
from torch import Tensor, nn

from nanolm import hardware
from nanolm.cli.evaluate import evaluate
from nanolm.errors import ConfigError, RunError
from nanolm.export.export import export
from nanolm.generator import load
from nanolm.model.config import ModelConfig
from nanolm.model.fast import int8, packed
from nanolm.model.fast.int8 import FBGEMM, SMALLEST, WIDE, Int8Embedding, Int8Linear, quantize
from nanolm.model.fast.packed import Half
from nanolm.model.transformer import Transformer
from nanolm.runs.find import find_run
from nanolm.runs.run import BEST, LAST
from nanolm.runs.weights import read_weights


def reference(module: Int8Linear, x: Tensor) -> Tensor:
    """The same product in float64: whole numbers times whole numbers, scaled back."""
    largest = x.abs().amax(-1, keepdim=True).clamp_min(SMALLEST)
    whole = (x / largest * int8.STEPS).round().double() @ module.weight.double().T
    out = whole * module.scale.double() * largest.double() / int8.STEPS
    return out if module.bias is None else out + module.bias.double()


@pytest.fixture(params=sorted({False, WIDE}), ids=["7 bits", "8 bits"][: 1 + WIDE])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "WIDE", request.param)
    monkeypatch.setattr(int8, "STEPS", 127 if request.param else 63)


@pytest.mark.parametrize("fbgemm", sorted({False, FBGEMM}))
@pytest.mark.parametrize(("rows", "dims", "bias"), [(24, 16, True), (97, 200, False), (7, 1, False)])
def test_the_product_equals_float64s(
    fbgemm: bool, rows: int, dims: int, bias: bool, steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "FBGEMM", fbgemm)
    torch.manual_seed(0)
    linear = nn.Linear(dims, rows, bias)
    module, x = Int8Linear.of(linear), torch.randn(5, 3, dims) * torch.logspace(-3, 3, 5)[:, None, None]
    x[0, 0] = 0
    x[1, 1, 0] = 1e4  # one large entry: the coarsest case; all entries of the weight at its largest: the fullest sums
    module.weight[0] = 127
    torch.testing.assert_close(module(x).double(), reference(module, x), rtol=1e-5, atol=1e-5)
    assert torch.equal(module(x)[2:3], module(x[2:3]))  # whatever else is in the batch
    near = linear(x)
    assert (module(x) - near)[..., 1:].norm() < 0.02 * near[..., 1:].norm()


def test_one_row_is_rounded_no_coarser_than_many(steps: None) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(200, 97)
    module, rows = Int8Linear.of(linear), torch.randn(20, 200)
    rows[0], rows[1, 0], module.weight[0] = 0, 1e4, 127  # as above
    exact = rows.double() @ (module.weight.double() * module.scale.double()[:, None]).T + linear.bias.double()
    many = module(rows)
    alone = torch.cat([module(row[None]) for row in rows])
    assert (alone - exact).norm() < 1.05 * (many - exact).norm() < 0.02 * exact.norm()
    torch.testing.assert_close(alone[0], linear.bias.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not FBGEMM, reason="no packed weights here")
def test_a_torch_without_its_interpreter_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, half = Int8Linear.of(nn.Linear(20, 30)), Half(nn.Linear(20, 30))
    monkeypatch.setattr(packed, "EARLY", 0)

    def products() -> list[Tensor]:
        return [each(x) for x in (torch.ones(1, 20), torch.ones(3, 20)) for each in (module, half)]

    expected = products()
    monkeypatch.delattr(torch.jit, "CompilationUnit")
    int8.fbgemm.cache_clear()
    try:
        assert all(torch.equal(one, other) for one, other in zip(products(), expected, strict=True))
        assert not isinstance(int8.fbgemm("fp16"), torch.jit.ScriptFunction)
    finally:
        int8.fbgemm.cache_clear()


def test_the_embedding_is_rounded_once_for_both_its_uses() -> None:
    embedding = nn.Embedding(7, 16)
    module = Int8Embedding.of(embedding)
    whole = module.weight.double() * module.scale.double()[:, None]
    torch.testing.assert_close(module(ids(2, 3) % 7).double(), whole[ids(2, 3) % 7])
    assert (whole - embedding.weight).abs().amax() <= module.scale.amax() * 0.5001
    x = torch.randn(2, 16)
    torch.testing.assert_close(module.product(x).double(), reference(module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pieces", [{}, ORIGINAL])
def test_a_model_stays_near_itself(pieces: dict[str, Any]) -> None:
    model, rounded = build(pieces).float(), build(pieces).float()
    quantize(rounded)
    text = ids(3, CONTEXT)
    with torch.no_grad():
        whole, near = (each.logits(each(text)).log_softmax(-1) for each in (model, rounded))
        cache = rounded.new_cache(3)
        steps = torch.stack([rounded.step(text[:, i : i + 1], cache) for i in range(CONTEXT)], 1).log_softmax(-1)
        nats = rounded.nats(text[:, :-1], text[:, 1:])
    assert 0 < (whole - near).norm() < 0.05 * whole.norm()
    assert (steps - near).norm() < 0.01 * near.norm()  # a rounding may fall to the other side
    torch.testing.assert_close(nats, -near[:, :-1].gather(2, text[:, 1:, None])[..., 0], rtol=1e-3, atol=1e-3)


def test_size_is_a_quarter() -> None:
    model = Transformer(ModelConfig(dims=64, heads=2, nblocks=1), VOCABULARY * 10, CONTEXT)
    before = sum(tensor.nbytes for tensor in model.state_dict().values())
    quantize(model)
    assert sum(tensor.nbytes for tensor in model.state_dict().values()) < 0.28 * before


def test_an_exported_run_writes_and_scores_as_quantize_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = untrained.run(tmp_path), tmp_path / "out"
    folder = export(str(run.folder), "int8", outputs=str(out))
    assert read_weights(folder / BEST)[0]["embedding.weight"].dtype == torch.int8
    asked: dict[str, Any] = {"decode": "greedy", "max_new_tokens": 8}
    texts = [
        load(place, outputs=out, quantize=how).generate("the army", **asked)
        for place, how in ((folder, None), (folder, "int8"), (run.folder, "int8"))
    ]
    assert len(set(texts)) == 1
    assert find_run("latest", out) == run.folder  # not the export
    with pytest.raises(ConfigError, match=r"^quantize=bf16: the weights of .* are int8 already"):
        load(folder, quantize="bf16")
    with pytest.raises(RunError, match="its weights are int8, for writing only"):
        export(str(folder), "hf", outputs=str(out))


def test_training_wants_whole_weights(tmp_path: Path) -> None:
    folder = export(str(untrained.run(tmp_path).folder), "int8", outputs=str(tmp_path / "out"))
    assert not (folder / LAST).exists()
    config = untrained.tiny_config(tmp_path, init=str(folder))
    from nanolm.training.train import train

    with pytest.raises(RunError, match="its weights are int8, for writing only"):
        train(config)


@pytest.mark.filterwarnings("ignore:quantize=bf16")  # where the CPU lacks the instructions
def test_rounded_weights_score_a_little_differently(tmp_path: Path) -> None:
    from nanolm.training.train import train

    train(untrained.tiny_config(tmp_path, epochs=1))
    out = tmp_path / "out"
    whole, half, small = (evaluate("latest", outputs=out, quantize=how).bpb for how in (None, "bf16", "int8"))
    assert 0 < abs(half - whole) < 0.05
    assert 0 < abs(small - whole) < 0.05


def test_wrong_and_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^quantize=int4: must be one of null, bf16, int8"):
        load(untrained.run(tmp_path).folder, quantize="int4")
    with pytest.raises(ConfigError, match=r"^quantize=int8: is for the CPU, not cuda"):
        hardware.check_quantize("int8", torch.device("cuda"))
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: False)
    for name in ("int8", "bf16"):
        with pytest.warns(UserWarning, match=f"quantize={name}: this CPU lacks the instructions"):
            hardware.check_quantize(name, torch.device("cpu"))
    for flags, able in (("flags : avx2 avx512f", True), ("Features : asimd", False), ("Features : i8mm", True)):
        assert hardware.has_flag(flags, "int8") is able
