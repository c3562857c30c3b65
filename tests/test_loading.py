"""A run's model, ready for use: device, precision, quantization and weights are decided in one place."""

from pathlib import Path

import pytest
import torch
import untrained

from nanolm import hardware
from nanolm.errors import ConfigError
from nanolm.export.export import export
from nanolm.model.fast import packed
from nanolm.runs import load
from nanolm.runs import run as runs
from nanolm.runs.load import load_for_scoring, load_for_writing
from nanolm.tokenizer.base import Tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading")
    untrained.run(folder)
    return folder / "out"


def test_auto_writes_in_bf16_where_the_cpu_multiplies_in_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 1)
    for able, halves in ((False, True), (True, True), (True, False)):
        monkeypatch.setattr(hardware, "cpu_has", lambda kind, able=able: able)
        for module in (packed, load):
            monkeypatch.setattr(module, "HALVES", halves and packed.FBGEMM)
        assert hardware.pick_precision("auto", torch.device("cpu")) == ("bf16" if able else "fp32")  # for training
        auto = load_for_writing(outputs=place)
        assert auto.weights == ("bf16" if able and halves and packed.FBGEMM else "fp32")
        assert auto.model.embedding.weight.dtype == (torch.float32 if auto.weights == "fp32" else torch.bfloat16)
        assert load_for_writing(outputs=place, precision="fp32").weights == "fp32"
        if able:
            asked = load_for_writing(outputs=place, precision="bf16")
            assert (asked.weights, asked.model.embedding.weight.dtype) == ("bf16", torch.bfloat16)


def test_small_matrices_stay_in_fp32(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: True)
    auto, exact = load_for_writing(outputs=place).model, load_for_writing(outputs=place, precision="fp32").model
    if packed.HALVES:
        assert all(torch.equal(one, exact.state_dict()[name]) for name, one in auto.state_dict().items())


def test_scores_are_in_fp32_unless_bf16_is_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: True)
    default, asked = load_for_scoring(outputs=place), load_for_scoring(outputs=place, precision="bf16")
    assert (default.precision, asked.precision) == ("fp32", "bf16")
    assert {weight.dtype for weight in asked.model.parameters()} == {torch.float32}
    assert load_for_scoring(outputs=place, quantize="int8").weights == "int8"
    with pytest.raises(ConfigError, match="precision=auto: must be one of fp32, bf16"):
        load_for_scoring(outputs=place, precision="auto")


def test_int8_in_bf16_is_a_contradiction(place: Path) -> None:
    folder = export(str(place / "run"), "int8", outputs=str(place))
    for run, quantize in ((place / "run", "int8"), (folder, None)):
        for loading in (load_for_writing, load_for_scoring):
            assert loading(run, quantize=quantize).weights == "int8"
            with pytest.raises(ConfigError, match=r"precision=bf16: the weights are int8.*leave it out"):
                loading(run, precision="bf16", quantize=quantize)


def test_the_tokenizer_is_read_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, load_tokenizer = list[Path](), runs.load_tokenizer

    def counted(path: Path) -> Tokenizer:
        reads.append(path)
        return load_tokenizer(path)

    monkeypatch.setattr(runs, "load_tokenizer", counted)
    loaded = load_for_writing(outputs=place)
    assert reads == [place / "run" / "tokenizer.json"]
    assert loaded.tokenizer is loaded.run.tokenizer()


def test_no_weights_are_drawn_to_be_written_over(place: Path) -> None:
    before = torch.get_rng_state()
    load_for_writing(outputs=place)
    assert torch.get_rng_state().equal(before)
