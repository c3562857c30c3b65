"""Bits per byte: the score that compares runs across vocabularies.

In: a model's nats per token, the documents' bytes, and the bits to spell what became <UNK>. Out: a `Score`.
Bytes are those of the normalised text plus one newline per document, which <EOS> pays for. Every <UNK> also pays to be
spelled by the corpus's one `Speller`, the same for every tokenizer and minfreq: without that, deleting words would be
free. Spellings of known words keep their mass, so the total is an upper bound on a proper code length.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from nanolm.corpus.batches import evaluation_batches
from nanolm.corpus.corpus import Encoded
from nanolm.model.config import IGNORE
from nanolm.model.transformer import Transformer
from nanolm.tokenizer.base import UNK


@dataclass
class Score:
    """The sums over one split. `bits` holds what each document costs, spelling included."""

    bits: np.ndarray  # float64 (documents,)
    spelling: np.ndarray  # float64 (documents,): the part of `bits` that spells <UNK>
    bytes: np.ndarray  # int64 (documents,): UTF-8 bytes + 1
    tokens: int  # scored: <EOS> and <UNK> too, <BOS> not
    nats: float
    unknown: int  # tokens that are <UNK>

    @property
    def bpb(self) -> float:
        """Bits per byte; nan without documents."""
        return float(self.bits.sum() / self.bytes.sum()) if len(self.bytes) else math.nan

    @property
    def loss(self) -> float:
        """Nats per token: comparable within one tokenizer only."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Per token: comparable within one tokenizer only. inf where it overflows."""
        return math.exp(self.loss) if not self.loss > 709 else math.inf

    @property
    def unk_rate(self) -> float:
        """The share of the scored tokens that are <UNK>."""
        return self.unknown / self.tokens if self.tokens else math.nan


def score_nats(nats: np.ndarray, encoded: Encoded, nbytes: np.ndarray, spelling: np.ndarray) -> Score:
    """The score of `nats`, one for each of `encoded.ids` (0 at each <BOS>)."""
    per_document = np.add.reduceat(nats, encoded.offsets[:-1], dtype=np.float64) if len(encoded) else np.zeros(0)
    return Score(
        bits=per_document / math.log(2) + spelling,
        spelling=spelling,
        bytes=nbytes,
        tokens=len(encoded.ids) - len(encoded),
        nats=float(per_document.sum()),
        unknown=int((encoded.ids == UNK).sum()),
    )


def encoded_nats(
    model: Transformer,
    encoded: Encoded,
    context: int,
    device: torch.device,
    precision: str = "fp32",
    rank: int = 0,
    world_size: int = 1,
) -> np.ndarray:
    """float32 (ids,): -ln P of every token but <BOS>, each scored once; dropout is off meanwhile.

    precision: fp32, so that the figures of all machines can stand in one table, or bf16. Of several ranks each scores
    its share and leaves 0 elsewhere: their sum is the whole.
    """
    nats = np.zeros(len(encoded.ids), np.float32)
    batch_tokens = 2048 if device.type == "cpu" else 16384  # a CPU's caches hold 2,048: 1.3 to 1.6 times as fast
    training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for batch in evaluation_batches(encoded, context, batch_tokens, rank, world_size):
                ids, targets = (torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets))
                rows, real = model.nats(ids, targets).cpu().numpy(), batch.targets != IGNORE
                for start, row, scored in zip(batch.starts, rows, real, strict=True):
                    nats[start : start + scored.sum()] = row[scored]
    finally:
        model.train(training)
    return nats
