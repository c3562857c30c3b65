"""The model: a decoder-only transformer whose pieces the config chooses.

In: ids (B, T), padded on the right (training) or on the left (`Cache.starts`). Out: hidden vectors, logits, nats.
Knows no tokenizer, no device policy and no optimizer. bf16 is the caller's: `torch.autocast` around training and
evaluation (parameters stay fp32), `model.to(torch.bfloat16)` for generation. `model.compile()` compiles `forward`; the
loss stays outside.
"""

from collections.abc import Callable
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.model.attention import Attention, AttentionInputs
from nanolm.model.cache import Cache, Columns
from nanolm.model.config import ModelConfig, check_fits
from nanolm.model.layers import MLP, Dropout, Embedding, make_norm
from nanolm.model.loss import compute_dtype, linear_cross_entropy, target_nats
from nanolm.model.ngrams import NOTHING, NGrams
from nanolm.model.positions import Angles, make_positions, places
from nanolm.model.spelling import Pieces, SpelledEmbedding
from nanolm.model.width import Kind, initialise, kinds, last_gain

TABLES = ("ngrams.tables", "embedding.spelling")  # parameters that are looked up and multiply nothing


class Block(nn.Module):
    """Attention, then MLP, each added to the stream; norms stand before them (pre) or after the sum (post)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre = config.norm_position == "pre"
        self.attention_norm, self.attention = make_norm(config), Attention(config)
        self.mlp_norm, self.mlp = make_norm(config), MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, inputs: AttentionInputs, columns: Optional[Columns] = None) -> Tensor:
        """x (B, T, dims) -> the same shape; columns: the block's own in a cache."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), inputs, columns))
            return x + self.dropout(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, inputs, columns)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class Transformer(nn.Module):
    """ids -> hidden -> logits, for at most `context` tokens of a vocabulary of `vocab_size`.

    pieces: how tokens are spelt, for a model with `spelling` that is to learn; without, its embedding is a plain one.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, context: int, pieces: Optional[Pieces] = None) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, context
        self.quick_step: Optional[Callable[[Transformer, Tensor, Cache], Tensor]] = None  # of one token
        self.embedding = (
            Embedding(vocab_size, config.dims)
            if pieces is None
            else SpelledEmbedding(vocab_size, config.dims, config.spelling, pieces)
        )
        self.ngrams = NGrams(config.ngrams, config.ngram_rows, config.dims) if config.ngrams > 1 else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.nblocks))
        self.norm = make_norm(config) if config.norm_position == "pre" else None
        self.output = None if config.tied else nn.Linear(config.dims, vocab_size, config.biases)
        if self.device.type == "meta":
            return  # shapes are all that is asked for; arithmetic there imports torch's compiler, 1.3 s of a start
        self.positions = make_positions(config, context)
        initialise(self, config)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.embedding.weight.device

    @property
    def output_weight(self) -> Tensor:
        """(V, dims); the embedding's where tied."""
        return self.embedding.table() if self.output is None else self.output.weight

    def forward(
        self,
        ids: Tensor,
        cache: Optional[Cache] = None,
        attentions: Optional[list[Tensor]] = None,
        vectors: Optional[Tensor] = None,
    ) -> Tensor:
        """ids (B, T) -> hidden (B, T, dims), final norm applied.

        With a cache, ids are the next T tokens of each row, and are added to it. With a list `attentions`, each block
        appends its weights (B, heads, T, N). vectors (B, T, dims): the embedding's of the ids, where the caller has
        them. Raises ConfigError where the tokens exceed the context.
        """
        tokens, past, starts = ids.shape[1], cache.length if cache else 0, cache.starts if cache else None
        check_fits(self.context, past + tokens)
        text = cache.follow(ids) if cache else F.pad(ids, (self.config.ngrams - 1, 0), value=NOTHING)
        x, angles = self.embed(text, places(tokens, past + tokens, starts, ids.device), vectors)
        inputs = AttentionInputs(angles, self.positions.mask(x, past + tokens, starts), attentions)
        columns = cache.columns(tokens) if cache else [None] * len(self.blocks)
        for block, of_block in zip(self.blocks, columns, strict=True):
            x = block(x, inputs, of_block)
        return x if self.norm is None else self.norm(x)

    def embed(
        self, text: Tensor, where: slice | Tensor, vectors: Optional[Tensor] = None
    ) -> tuple[Tensor, Optional[Angles]]:
        """Ids at the positions `where` -> what the first block reads (B, T, dims), and the rotary angles.

        text: (B, ngrams - 1 + T), the ids and those that stand before them.
        """
        x = self.embedding(text[:, self.config.ngrams - 1 :]) if vectors is None else vectors
        if self.ngrams is not None:
            x = x + self.ngrams(text)
        x = self.dropout(self.positions.add(x.to(compute_dtype(x)), where))
        return x, self.positions.angles(x, where)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., dims) -> float32 (..., V)."""
        return (self.embedding.product(hidden) if self.output is None else self.output(hidden)).float()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets (B, T) that aren't IGNORE; the logits of a batch never exist at once."""
        table = self.embedding.table()  # made once for both ends
        few = self.output is None and self.device.type == "cpu"  # what is read adds its rows to the loss's gradient
        return self.loss_between(F.embedding(ids, table, sparse=few), table, ids, targets)

    def loss_between(self, vectors: Tensor, table: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
        """The same, of what the embedding gives at its two ends: the vectors (B, T, dims) of the ids, and its table."""
        hidden = self(ids, vectors=vectors).flatten(0, 1)
        weight, bias = (table, None) if self.output is None else (self.output.weight, self.output.bias)
        return linear_cross_entropy(hidden, weight, bias, targets.flatten())

    @torch.no_grad()
    def nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        """float32 (B, T): the nats of each target, 0 where it is IGNORE."""
        return target_nats(self(ids).flatten(0, 1), self.logits, targets.flatten(), self.vocab_size).view_as(targets)

    @torch.no_grad()
    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """Reads the next tokens (B, T) of each row into the cache; float32 logits (B, V) of what follows."""
        if self.quick_step is not None and ids.shape[1] == 1:
            return self.quick_step(self, ids, cache)
        return self.logits(self(ids, cache)[:, -1])

    def new_cache(self, batch: int, starts: Optional[Tensor] = None) -> Cache:
        """An empty cache of `batch` rows; starts (batch,): how many columns of padding each row has on its left."""
        config, weight = self.config, self.get_parameter(last_gain(self.config))  # int8 models too have it in a float
        shape = (config.nblocks, batch, config.key_heads, self.context, config.head_dims)
        return Cache(shape, weight.detach().to(compute_dtype(weight)), starts, config.ngrams - 1)

    def summary(self) -> dict[str, int]:
        """Parameters per part: embedding, tables (n-grams, spelling), attention, mlp, norms, output (0 where tied)."""
        parts = dict.fromkeys(("embedding", "tables", "attention", "mlp", "norms", "output"), 0)
        for name, parameter in self.named_parameters():
            part = name.split(".")[0] if not name.startswith("blocks") else name.split(".")[2]
            part = "norms" if "norm" in name else "tables" if name in TABLES else part
            parts[part] += parameter.numel()
        return parts

    def kinds(self, depth: bool = True) -> list[Kind]:
        """The parameters by kind, with the share of the learning rate that this width wants, and `depth` if asked."""
        return kinds(self, self.config, depth)
