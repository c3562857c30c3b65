"""How long a training is, whether compiling repays, and with what weights it begins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import rows, tiny_config, write_documents

from nanolm.errors import ConfigError
from nanolm.runs.run import BEST, Run, kept_name
from nanolm.runs.weights import read_weights
from nanolm.training import plan, step
from nanolm.training.config import TrainConfig
from nanolm.training.display import duration
from nanolm.training.plan import measured_steps, planned_steps, step_batches
from nanolm.training.setup import set_up
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.mark.parametrize("at_once", [{"cpu"}, set[str]()])  # on a GPU: nothing
def test_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: set[str]) -> None:
    monkeypatch.setattr(step, "SYNCHRONOUS", at_once)
    monkeypatch.setattr(plan, "SYNCHRONOUS", at_once)
    setup = set_up(tiny_config(tmp_path, epochs=2.5))
    per_epoch = setup.steps_per_epoch
    assert planned_steps(setup) == round(2.5 * per_epoch)
    setup.config = replace(setup.config, tokens=setup.batches.tokens + 1)
    assert planned_steps(setup) == per_epoch + 1
    assert sum(
        batch.tokens for _, group in zip(range(per_epoch), step_batches(setup, 0), strict=False) for batch in group
    ) == (setup.batches.tokens)
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    random = torch.get_rng_state()
    assert measured_steps(setup, minutes=1.0) > measured_steps(setup, minutes=0.01) >= 1
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in setup.model.state_dict().items())
    assert not any(tensor.any() for state in setup.optimizer.state.values() for tensor in state.values())
    with pytest.raises(ConfigError, match="minutes and tokens"):
        tiny_config(tmp_path, minutes=1.0, tokens=5)


@pytest.mark.slow
def test_compiled_it_learns_the_same(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, precision="fp32", epochs=1)
    train(config, folder=tmp_path / "eager")
    train(replace(config, compile="on"), folder=tmp_path / "compiled")
    assert Run.open(tmp_path / "compiled").manifest["plan"]["compile"]
    one, other = ([float(row["train_loss"]) for row in rows(tmp_path / name)] for name in ("eager", "compiled"))
    assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_a_missing_compiler_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch._inductor.config

    torch._dynamo.reset()  # what another test has compiled
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    train(tiny_config(tmp_path, compile="on", epochs=1), folder=tmp_path / "run")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("compile: "))
    assert line.endswith("runs as it is, slower")
    assert not Run.open(tmp_path / "run").manifest["plan"]["compile"]


@pytest.mark.parametrize(("precision", "compiled"), [("fp32", False), ("bf16", True)])
def test_a_long_budget_is_compiled_only_where_that_repays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, compiled: bool
) -> None:
    monkeypatch.setattr(plan, "compile_model", lambda setup: True)
    setup = set_up(tiny_config(tmp_path, epochs=1e6))
    setup.precision = precision
    assert plan.make_plan(setup)["compile"] is compiled
    setup.config = replace(setup.config, epochs=1)
    assert plan.make_plan(setup)["compile"] is False


def test_groups_go_on_from_any_step(tmp_path: Path) -> None:
    setup = set_up(tiny_config(tmp_path, accumulate=2))
    stream = step_batches(setup, 0)
    expected = [[batch.ids.tolist() for batch in next(stream)] for _ in range(10)]
    for start in range(10):
        assert [batch.ids.tolist() for batch in next(step_batches(setup, start))] == expected[start]


def test_a_trained_model_goes_on_with_other_text(tmp_path: Path) -> None:
    source = tmp_path / "source"
    train(tiny_config(tmp_path, epochs=1), folder=source)
    other = str(write_documents(tmp_path / "other.txt", seed=5))
    text, slow = {"path": other}, {"lr": 1e-12}
    config = tiny_config(tmp_path, data=text, init=str(source), epochs=1, optim=slow, ema=0.9, keep_every=1000)
    tokenizer = replace(config.tokenizer, minfreq=7)
    train(replace(config, tokenizer=tokenizer), ["optim.lr=1e-12"], folder=tmp_path / "run")
    old, new = Run.open(source), Run.open(tmp_path / "run")
    assert new.config["model"] == old.config["model"]
    assert new.config["tokenizer"] == old.config["tokenizer"]
    assert new.tokenizer().fingerprint == old.tokenizer().fingerprint
    assert new.status()["corpus"] != old.status()["corpus"]
    weights, _ = read_weights(source / BEST)
    for name in (BEST, kept_name(0)):
        now = read_weights(tmp_path / "run" / name)[0]
        assert all(torch.allclose(weights[key], tensor, atol=1e-6) for key, tensor in now.items())


@pytest.mark.parametrize(
    ("override", "fields"),
    [("model.dims=32", {"model": {"dims": 32}}), ("model=base", {"model": {"dims": 32}})],
)
def test_init_refuses_another_model(tmp_path: Path, override: str, fields: dict[str, Any]) -> None:
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "source")
    config = tiny_config(tmp_path, init=str(tmp_path / "source"), **fields)
    with pytest.raises(ConfigError, match=f"^{override.split('=')[0]}: init="):
        train(config, [override])
    train(replace(config, model=tiny_config(tmp_path).model, epochs=0.2), ["model=tiny", "model.dims=16"])


def test_init_refuses_text_that_its_tokenizer_cannot_read(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, epochs=1), folder=tmp_path / "source")
    with pytest.raises(ConfigError, match=r"data\.normalise=clean"):
        train(tiny_config(tmp_path, init=str(tmp_path / "source"), data={"normalise": "none"}))


def test_documents_longer_than_an_odd_context(tmp_path: Path) -> None:
    train(tiny_config(tmp_path, model={"context": 13}, epochs=1), folder=tmp_path / "run")
    assert Run.open(tmp_path / "run").status()["context"] == 13


@pytest.mark.parametrize(
    ("given", "larger"),
    [({"tokens": 3000}, "tokens=6000"), ({"minutes": 1.5}, "minutes=3"), ({"epochs": 0.5}, "epochs=1")],
)
def test_the_next_budget_is_of_the_same_kind(given: dict[str, Any], larger: str) -> None:
    assert TrainConfig(**given).larger_budget == larger


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (59.7, "1:00 min"), (3599.9, "1:00 h"), (7801, "2:10 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
