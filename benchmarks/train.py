"""Training: nanolm's step against a plain loop over transformers' Llama of the same shape, data and batch size.

Prints tables of real (not padding) tokens per second, of what a batch holds, and of how long a start takes.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timer import MOVIES, compare, machine, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from nanolm.config import build, fill
from nanolm.corpus.batches import Batch
from nanolm.decode.greedy import Greedy
from nanolm.hardware import cpu_has
from nanolm.model.config import IGNORE, ModelConfig
from nanolm.training.config import TrainConfig
from nanolm.training.plan import compile_model, flops_per_token
from nanolm.training.progress import Progress
from nanolm.training.setup import Setup, set_up
from nanolm.training.step import Meter, gradient, take_step

BATCH, STEPS = 32, 1000
ROOT = Path(__file__).resolve().parent.parent
EMPTY = """import hydra

@hydra.main(version_base="1.3", config_path=".", config_name="empty")
def main(config):
    pass

main()
"""


def config(outputs: Path, **fields: Any) -> TrainConfig:
    """dims 512, heads 8, nblocks 3 on films of at most 128 words (or tinyplots), a vocabulary of about 8,500."""
    films = {"name": "movie_plots", "path": str(MOVIES), "maxlen": 128}
    made = TrainConfig(
        data=build("data", films if MOVIES.exists() else {"name": "tinyplots"}),
        tokenizer=build("tokenizer", {"name": "word", "minfreq": 12 if MOVIES.exists() else 1}),
        model=fill(ModelConfig, {"dims": 512, "heads": 8, "nblocks": 3}, "model"),
        optim=build("optim", {"name": "adamw"}),
        decode=Greedy(),
        tracking=build("tracking", {"name": "disabled"}),
        batch_size=BATCH,
        outputs=str(outputs),
    )
    return replace(made, **fields)


def upcoming(setup: Setup, bucketed: bool = True, multiple: int = 1) -> Iterator[Batch]:
    """The run's own batches; or its rows, not sorted by length, padded to a `multiple` of tokens (or the context)."""
    chance = np.random.default_rng(0)
    for epoch in range(STEPS):
        if bucketed:
            yield from setup.batches.epoch(epoch)
            continue
        shuffled = chance.permutation(len(setup.batches.rows.starts))[: len(setup.batches) // 2 * BATCH]
        for index in shuffled.reshape(-1, BATCH):
            yield setup.batches.rows.batch(index, multiple)


def ours(setup: Setup, batches: Iterator[Batch], compiled: bool = False, update: bool = True) -> Callable[[], float]:
    """A step of nanolm, or its gradient alone."""
    if compiled and not compile_model(setup):
        raise SystemExit("no compiler here")
    progress, meter = Progress(), Meter()

    def way() -> float:
        batch = next(batches)
        if update:
            take_step(setup, [batch], progress, STEPS, meter)  # on a GPU nobody waits for its figures
        else:
            gradient(setup, [batch])
            setup.optimizer.zero_grad()
        return batch.tokens

    return way


def plain(setup: Setup, bucketed: bool, bf16: bool = False) -> Callable[[], float]:
    """A step as most would write it."""
    shape = setup.config.model
    sizes = {"hidden_size": shape.dims, "intermediate_size": shape.hidden_dims, "num_hidden_layers": shape.nblocks}
    sizes |= {"num_attention_heads": shape.heads, "max_position_embeddings": setup.context}
    sizes |= {"vocab_size": len(setup.tokenizer), "tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(**sizes)).to(setup.device)
    optimizer, batches = torch.optim.AdamW(model.parameters(), 1e-3), upcoming(setup, bucketed)

    def way() -> float:
        batch = next(batches)
        labels = np.pad(batch.targets, ((0, 0), (1, 0)), constant_values=IGNORE)
        inputs = np.pad(batch.ids, ((0, 0), (0, 1)))
        inputs[labels != IGNORE] = labels[labels != IGNORE]  # the last target is an input of theirs too
        ids, labels = (torch.from_numpy(part).to(setup.device) for part in (inputs, labels))
        mask = torch.from_numpy(np.arange(ids.shape[1]) <= (batch.targets != IGNORE).sum(1)[:, None]).long()
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=bf16):
            loss = model(ids, attention_mask=mask.to(setup.device), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return batch.tokens

    return way


def real(setup: Setup, bucketed: bool) -> float:
    """The share of real tokens in batches."""
    batches = [batch for batch, _ in zip(upcoming(setup, bucketed), range(400), strict=False)]
    return sum(batch.tokens for batch in batches) / sum(batch.ids.size for batch in batches)


def empty(place: Path) -> Path:
    """A Hydra program with an empty configuration that does nothing."""
    (place / "empty.yaml").write_text("{}")
    (place / "empty.py").write_text(EMPTY)
    return place / "empty.py"


def command(*words: str, until: Path | None = None, script: Path = ROOT / "train.py") -> Callable[[], float]:
    """Seconds of `python train.py words`: until its end, or until a metrics.csv under `until` has a row."""

    def way() -> float:
        begun, known = time.perf_counter(), set(until.glob("*/metrics.csv")) if until else set()
        process = subprocess.Popen([sys.executable, str(script), *words], cwd=ROOT, stdout=subprocess.DEVNULL)
        while until and not any(
            path.read_bytes().count(b"\n") > 1 for path in set(until.glob("*/metrics.csv")) - known
        ):
            time.sleep(0.02)
        if until:
            process.terminate()
        else:
            process.wait()
        taken = time.perf_counter() - begun
        process.wait()
        return taken

    return way


def main() -> None:
    limits = machine("Training")
    with tempfile.TemporaryDirectory() as place:
        setup = set_up(config(Path(place), precision="fp32"))
        size = (
            f"dims 512, heads 8, nblocks 3, vocabulary {len(setup.tokenizer):,}, batch {BATCH} x up to {setup.context}"
        )
        print(
            f"\n{setup.corpus.summary()}\n\nReal tokens of a batch: {real(setup, True):.1%}, in random order", end=" "
        )
        print(f"{real(setup, False):.1%}.\n\nA step with AdamW ({size}), real tokens/s:")
        muon = set_up(config(Path(place), precision="fp32", optim=build("optim", {"name": "muon"})))
        ways = {"transformers, random, fp32": plain(setup, False), "transformers, bucketed, fp32": plain(setup, True)}
        if cpu_has("bf16") or setup.device.type == "cuda":
            ways |= {"transformers, random, bf16 autocast": plain(setup, False, True)}
            ways |= {"transformers, bucketed, bf16 autocast": plain(setup, True, True)}
        ways["nanolm, fp32"] = ours(setup, upcoming(setup))
        ways["nanolm, fp32, gradient alone"] = ours(setup, upcoming(setup), update=False)
        ways["nanolm, fp32, muon"] = ours(muon, upcoming(muon))
        best = set_up(config(Path(place)))
        ways[f"nanolm, {best.precision}, compiled"] = ours(best, upcoming(best), compiled=True)
        rates = compare(ways, "tokens/s")
        muons = 1 - rates["nanolm, fp32, muon"] / rates["nanolm, fp32, gradient alone"]
        achieved, limit = (
            flops_per_token(best) * [*rates.values()][-1] / 1e9,
            limits[f"{best.precision} matrix product"],
        )
        print(f"\nMuon's share of its step: {muons:.0%}. Compiled: {achieved:,.0f} GFLOP/s of the model's arithmetic,")
        print(f"{achieved / limit:.0%} of the machine's {best.precision} matrix rate.\n\nStarting, seconds:")
        words = ["model=small", "tracking=disabled", f"outputs={place}", "samples=0", "data.plots=5000"]
        command(*words, "tokens=1")()  # fills the cache
        first = command(*words, "compile=off", "log_every=1", "eval_every=100000", until=Path(place))
        starts = {"an empty Hydra program --cfg job": command("--cfg", "job", script=empty(Path(place)))}
        starts["train.py --cfg job"] = command("--cfg", "job")
        seconds(starts | {"to the first optimizer step, not compiled": first})


if __name__ == "__main__":
    main()
