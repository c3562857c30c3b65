"""What `train.py` can be told: the top-level knobs of a run and its groups.

In: plain values (Hydra's, or a run folder's config.json). Out: a checked TrainConfig. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import MISSING, between, build, fill, knob, one_of
from nanolm.data.base import DataConfig
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.optim.base import OptimConfig
from nanolm.tokenizer.base import TokenizerConfig
from nanolm.tracking.base import TrackingConfig, read_tracking


@dataclass
class TrainConfig:
    """One run. The budget is `epochs`, unless `minutes` or `tokens` is given (not both)."""

    data: DataConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    model: ModelConfig = MISSING
    optim: OptimConfig = MISSING
    decode: DecodeConfig = MISSING
    tracking: TrackingConfig = MISSING
    epochs: float = knob(10.0, "the budget, unless minutes or tokens is given")
    minutes: Optional[float] = knob(None, "of training steps; evaluation and the report come on top")
    tokens: Optional[int] = knob(None, "target tokens, rounded up to whole steps")
    batch_size: int = knob(16, "documents (or windows of long ones) per batch")
    accumulate: int = knob(1, "batches per optimizer step")
    reshuffle: bool = knob(True, "another order of the batches every epoch, and other cuts of long documents")
    ema: Optional[float] = knob(None, "a step, of a moving average of the weights: evaluated and kept; null: none")
    seed: int = knob(1, "initial weights, dropout, samples")
    data_seed: int = knob(1, "order of the batches")
    device: str = knob("auto", "auto | cpu | cuda | cuda:1 | mps")
    precision: str = knob("auto", "auto | fp32 | bf16")
    compile: str = knob("auto", "auto | on | off")
    threads: Optional[int] = knob(None, "of the CPU; null: torch's choice")
    eval_every: Optional[int] = knob(None, "steps; null: each epoch. The last step is always evaluated")
    patience: Optional[int] = knob(None, "stop after so many evaluations without a better one; null: never")
    log_every: int = knob(10, "steps per row of metrics.csv")
    checkpoint_seconds: float = knob(60.0, "at most so much work is lost by a kill")
    keep_every: Optional[int] = knob(None, "steps; the weights of each such step stay, for look.py; null: none")
    samples: int = knob(3, "texts per prompt at the end")
    prompts: list[str] = knob([""], "what the samples go on from")
    run_name: Optional[str] = knob(None, "of the run's folder, after its time; null: a name of its own")
    tags: list[str] = knob([], "words to find the run by")
    group: Optional[str] = knob(None, "of runs, in W&B; null: the sweep's name")
    outputs: str = knob("outputs", "the folder of all runs", path=True)
    resume: Optional[str] = knob(None, "a run folder: go on exactly where it stopped", path=True)
    init: Optional[str] = knob(None, "a run folder: start from its best weights on other data", path=True)

    def __post_init__(self) -> None:
        between("epochs", self.epochs, 0, 1e6, open_low=True)
        between("minutes", self.minutes, 0, 1e6, open_low=True)
        between("ema", self.ema, 0, 1, open_low=True)
        between("threads", self.threads, 1, 4096)
        for key in ("tokens", "batch_size", "accumulate", "eval_every", "patience", "log_every", "keep_every"):
            between(key, getattr(self, key), 1, 10**15)
        for key in ("seed", "data_seed"):
            between(key, getattr(self, key), 0, 2**63 - 1)
        between("checkpoint_seconds", self.checkpoint_seconds, 0)
        between("samples", self.samples, 0, 1000)
        one_of("precision", self.precision, ("auto", "fp32", "bf16"))
        one_of("compile", self.compile, ("auto", "on", "off"))
        if self.minutes is not None and self.tokens is not None:
            raise ConfigError("minutes and tokens are both given: a run has one budget, leave one out")
        if self.resume is not None and self.init is not None:
            raise ConfigError(
                "resume and init are both given: resume goes on with a run, init starts a new one from it"
            )

    @property
    def larger_budget(self) -> str:
        """Twice the budget, in what it was given in: `tokens=40000`."""
        if self.minutes is not None:
            return f"minutes={2 * self.minutes:g}"
        if self.tokens is not None:
            return f"tokens={2 * self.tokens}"
        return f"epochs={2 * self.epochs:g}"


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig from the plain dict of a config.json: nothing is interpolated, unknown keys are errors."""
    values = dict(values)
    for group in ("data", "tokenizer", "optim", "decode"):
        values[group] = build(group, values.get(group, {}))
    values["model"] = fill(ModelConfig, values.get("model", {}), "model")
    values["tracking"] = read_tracking(values.get("tracking", {}))
    return fill(TrainConfig, values, "config")
