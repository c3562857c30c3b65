"""Run folders as training leaves them, made of nothing: scores that follow from the config, and noise."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nanolm.files import write_json
from nanolm.runs.run import Run

DOCUMENTS = 300
SAMPLES = "the army general of mara meets a dragon .\n\nthe dog & the <dragon> are friends .\n"


def config(**changes: Any) -> dict[str, Any]:
    """A nested config; `changes` by dotted keys with `__` for the dot."""
    values: dict[str, Any] = {
        "data": {"name": "tinyplots", "normalise": "clean"},
        "tokenizer": {"name": "word", "minfreq": 1},
        "model": {"name": "custom", "dims": 64, "heads": 4, "nblocks": 2, "context": 128},
        "decode": {"name": "sample"},
        "optim": {"name": "adamw", "lr": 0.001},
        "tracking": {"mode": "offline"},
        "epochs": 10.0,
        "seed": 1,
        "data_seed": 1,
        "outputs": "outputs",
    }
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        (values[group] if group else values)[name] = value
    return values


def score(values: dict[str, Any]) -> float:
    """The expected bits per byte."""
    model = values["model"]
    gain = 0.12 * math.log2(model["dims"] / 32) + 0.08 * math.log2(model["nblocks"]) + 0.001 * math.log2(model["heads"])
    return 2.6 - gain + {"char": 0.15, "word": 0.0, "bpe": 0.02}[values["tokenizer"]["name"]]


def make_run(
    folder: Path,
    values: dict[str, Any],
    status: dict[str, Any] | None = None,
    shift: float = 0.0,
    save: Callable[[Path], None] | None = None,
) -> Path:
    """A finished run, `shift` bits per byte above its `score`; `status` overrides fields, `save` writes a tokenizer."""
    model, tokenizer = values["model"], values["tokenizer"]
    body = 12 * model["dims"] ** 2 * model["nblocks"]
    vocabulary = {"char": 60, "word": 3000, "bpe": 2000}[tokenizer["name"]]
    Run.create(folder, values, {"steps": 100}, {"tokenizer.json": save or (lambda path: write_json(path, tokenizer))})
    documents = np.random.default_rng(0)  # the same documents for all
    nbytes = documents.integers(200, 800, DOCUMENTS)
    hard = documents.normal(0, 0.3, DOCUMENTS)
    noise = np.random.default_rng(zlib.crc32(json.dumps([model, values["seed"]]).encode())).normal(0, 0.05, DOCUMENTS)
    bits = nbytes * (score(values) + shift + hard + noise)
    rows = "".join(f"{i},{b!r},{n}\n" for i, (b, n) in enumerate(zip(bits.tolist(), nbytes.tolist(), strict=True)))
    (folder / "test_bits.csv").write_text("document,bits,bytes\n" + rows)
    bpb = float(bits.sum() / nbytes.sum())
    lines = ["step,epoch,tokens,lr,train_loss,grad_norm,val_loss,val_ppl,val_bpb,seconds,tokens_per_s"]
    for step in range(10, 1001, 10):
        loss = 1.2 * bpb + 4 * math.exp(-step / 100)
        val = f"{loss},{math.exp(loss)},{bpb + math.exp(-step / 150)}" if step % 100 == 0 else ",,"
        lines.append(f"{step},{step / 100},{step * 2000},0.001,{loss},1.0,{val},{step * body / 1e6},{2e9 / body}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "samples.txt").write_text(SAMPLES)
    full = {
        "state": "finished",
        "corpus": "c0ffee0000000001",
        "documents": {"train": 5000, "val": 300, "test": DOCUMENTS},
        "vocabulary": vocabulary,
        "parameters": {"embedding": vocabulary * model["dims"], "mlp": body, "norms": 99, "output": 0},
        "val_bpb": bpb + 0.01,
        "val_ppl": 12.5,
        "test_bpb": bpb,
        "test_ppl": 11.0,
        "test_unk_rate": 0.01,
        "tokens": 2_000_000,
        "seconds": body / 1e3,
        "tokens_per_s": 2e9 / body,
        "memory_mb": 321.4,
        "step": 1000,
    }
    write_json(folder / "status.json", full | (status or {}))
    return folder


def make_outputs(folder: Path) -> Path:
    """A sweep over dims and heads with three seeds for one pair, and three runs that can't be ranked."""
    sweep = folder / "sweeps" / "dims_heads"
    sweep.mkdir(parents=True)
    write_json(sweep / "sweep.json", {"swept": ["model.dims", "model.heads"], "started": 0})
    for dims in (32, 64):
        for heads in (2, 4):
            for seed in (1, 2, 3) if (dims, heads) == (64, 4) else (1,):
                values = config(model__dims=dims, model__heads=heads, seed=seed)
                make_run(sweep / f"dims={dims},heads={heads},seed={seed}", values, shift=0.002 * seed)

    (sweep / "heads=3").mkdir()
    write_json(sweep / "heads=3" / "status.json", {"state": "failed", "error": "model.heads=3: 64 is no multiple"})
    make_run(sweep / "going", config(model__dims=128), {"state": "running"})
    (make_run(sweep / "damaged", config(model__dims=128)) / "config.json").write_text("{")
    return folder
