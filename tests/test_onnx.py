"""format=onnx, judged by onnxruntime: the same scores token by token with the cache, for one row and for three."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import untrained

from nanolm.errors import ConfigError
from nanolm.export.export import export
from nanolm.export.onnx import cache_names
from nanolm.generator import load

MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tied": False, "heads": 4, "kv_heads": 2, "nblocks": 1},
}


class Said(logging.Handler):
    """Keeps what a logger was told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_onnxruntime_scores_the_same(tmp_path: Path, model: dict[str, Any]) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    run, said = untrained.run(tmp_path, **model), Said()
    logging.getLogger("torch.onnx._internal.exporter._registration").addHandler(said)
    folder = export(str(run.folder), "onnx", outputs=str(tmp_path / "out"))
    assert not said.lines, "whoever exports a model asked nothing about torchvision"
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    ours, config = load(run.folder, precision="fp32").model, load(run.folder).model.config
    for rows in (1, 3):
        ids = torch.randint(4, ours.vocab_size, (rows, 9), generator=torch.Generator().manual_seed(rows))
        cache = ours.new_cache(rows)
        past = [np.zeros((rows, config.key_heads, 0, config.head_dims), np.float32)] * (2 * config.nblocks)
        for start, end in ((0, 5), (5, 6), (6, 9)):  # a prompt, a token, several tokens
            part = ids[:, start:end]
            given = dict(zip(cache_names(config.nblocks, "past"), past, strict=True))
            logits, *past = session.run(None, {"ids": part.numpy(), **given})
            np.testing.assert_allclose(logits, ours.step(part, cache).numpy(), atol=1e-4)
        assert past[0].shape[2] == 9


def test_an_architecture_of_ours_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    run = untrained.run(tmp_path, norm="layer")
    with pytest.raises(ConfigError, match=r"model\.norm=layer"):
        export(str(run.folder), "onnx", outputs=str(tmp_path / "out"))
