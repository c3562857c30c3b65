"""Everything a run needs before its first step: corpus, tokenizer, ids, model, optimizer.

In: a TrainConfig, and the tokenizer of the run to start from where there is one. Out: a Setup. Writes only caches.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from nanolm.corpus.batches import TrainingBatches
from nanolm.corpus.corpus import Corpus, Encoded, encode_corpus, fit_tokenizer, load_corpus
from nanolm.errors import ConfigError
from nanolm.hardware import keep_freed_memory, pick_device, pick_precision, total_memory
from nanolm.model.config import ModelConfig
from nanolm.model.spelling import pieces_of
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.spinning import spin_unless_busy
from nanolm.tokenizer.base import SPECIALS, Tokenizer
from nanolm.training.config import TrainConfig
from nanolm.training.distributed import local_device, rank, world_size
from nanolm.training.loss import Loss, rank_loss
from nanolm.training.output import announced

LONGEST_CONTEXT = 1024  # tokens, where the data chooses
# how many lengths batches have: a GPU plans its memory and kernels anew for each, a CPU in bf16 its products; fp32 on a
# CPU doesn't mind, so its batches are as long as their longest row
LENGTHS = {"cuda": 10, "cpu": 20}


class Average(AveragedModel):  # type: ignore[misc]
    """The average of a model's weights over the steps; torch's makes a GPU wait for its count of them at each.

    decay: of a moving average; None: the mean.
    """

    def __init__(self, model: Transformer, decay: float | None = None) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: Transformer) -> None:
        """Moves the average towards the model's weights, or on to them at the first step."""
        share = 1 / (self.n_averaged + 1) if self.decay is None or not self.n_averaged else 1 - self.decay
        torch._foreach_lerp_([*self.module.parameters()], [*model.parameters()], share)
        self.n_averaged += 1


@dataclass
class Setup:
    """The parts of one training, as they are before its first step."""

    config: TrainConfig
    cache: Path
    corpus: Corpus
    tokenizer: Tokenizer
    encoded: dict[str, Encoded]
    batches: TrainingBatches
    context: int
    device: torch.device
    precision: str
    model: Transformer
    loss: Loss  # (ids, targets) -> summed nats; of several ranks, it brings their gradients together
    optimizer: Any
    average: Average | None = None  # of the weights over the steps, with `ema`

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps; the last one of an epoch may hold fewer than `accumulate` batches."""
        return -(-len(self.batches) // self.config.accumulate)

    @property
    def evaluated_model(self) -> Transformer:
        """The model that is evaluated and kept: the average where there is one."""
        model: Transformer = self.average.module if self.average else self.model
        return model


def set_up(config: TrainConfig, tokenizer: Tokenizer | None = None) -> Setup:
    """What `config` asks for, on a known tokenizer or on one fitted to the data; what is cached is reused."""
    config.tracking.check(config.tags, run_name=config.run_name, group=config.group)
    if config.batch_size % world_size():
        mend = f"take a multiple of {world_size()}"
        raise ConfigError(f"batch_size={config.batch_size}: can't be shared by {world_size()} processes; {mend}")
    device = local_device(pick_device(config.device))
    precision = pick_precision(config.precision, device)
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    if tokenizer and tokenizer.normalise != config.data.normalise:
        mend = f"the tokenizer of the run reads {tokenizer.normalise} text; give data.normalise={tokenizer.normalise}"
        raise ConfigError(f"data.normalise={config.data.normalise}: {mend}")
    cache = Path(config.outputs) / "cache"
    with announced("reading the documents"):
        corpus = load_corpus(config.data, cache)
    with announced("fitting the tokenizer"):
        tokenizer = tokenizer or fit_tokenizer(config.tokenizer, corpus, cache)
    with announced("turning the documents into ids"):
        encoded = encode_corpus(corpus, tokenizer, cache)
    context = config.model.context or natural_context(encoded["train"])
    words = any(len(token) > 1 for token in tokenizer.vocabulary[len(SPECIALS) :])  # characters have no pieces
    spelling = config.model.spelling if words else 0
    config = replace(config, model=replace(config.model, context=context, spelling=spelling))
    multiple = padding_multiple(device.type, precision, context)
    order = (config.data_seed, multiple, config.reshuffle)
    batches = TrainingBatches(encoded["train"], context, config.batch_size, *order, rank(), world_size())
    torch.manual_seed(config.seed)
    pieces = pieces_of(tokenizer.vocabulary, spelling) if spelling else None
    affordable(config.model, len(tokenizer), context, device.type)
    spin_unless_busy()  # from here on no process is forked that would have its threads
    model = Transformer(config.model, len(tokenizer), context, pieces).to(device)
    optimizer = config.optim.build(model, precision)
    loss = Loss(model) if world_size() == 1 else rank_loss(model, optimizer)
    setup = Setup(
        config, cache, corpus, tokenizer, encoded, batches, context, device, precision, model, loss, optimizer
    )
    if config.ema is not None:
        setup.average = Average(model, config.ema)
    return setup


def padding_multiple(device: str, precision: str, context: int) -> int:
    """What the lengths of batches are multiples of, so that there are at most LENGTHS."""
    if device == "cpu" and precision == "fp32":
        return 1
    return -(-context // (8 * LENGTHS.get(device, 10))) * 8


def affordable(config: ModelConfig, vocabulary: int, context: int, device: str) -> None:
    """ConfigError where the model exceeds the memory.

    With its gradient and the optimizer's two copies where they lie in it too: on a CPU and mps.
    """
    with torch.device("meta"):
        parameters = sum(Transformer(config, vocabulary, context).summary().values()) + config.spelling * config.dims
    copies = 1 if device == "cuda" else 4
    needed = 4 * parameters * copies
    there = total_memory()
    if needed > there:
        sizes = f"{parameters:,} parameters need {needed / 2**30:,.0f} GiB, this machine has {there / 2**30:,.0f}"
        tables = [
            f"model.{key}" for key, on in (("ngram_rows", config.ngrams > 1), ("spelling", config.spelling)) if on
        ]
        raise ConfigError(f"model: {sizes}; lower {' or '.join(['model.dims', 'model.nblocks', *tables])}")


def natural_context(encoded: Encoded) -> int:
    """The longest document in tokens (its last one is only a target), rounded up to 16, at most 1,024."""
    longest = int(np.diff(encoded.offsets).max()) - 1
    return min(LONGEST_CONTEXT, -(-longest // 16) * 16)


def load_weights(setup: Setup, run: Run) -> None:
    """Gives the setup's model the best weights of `run`, whose model has the same shape.

    What `run` has folded into its embedding stays in it, and the pieces of words begin anew.
    """
    setup.model.load_state_dict(setup.model.state_dict() | run.trained().state_dict())
    if setup.average:
        setup.average.module.load_state_dict(setup.model.state_dict())
