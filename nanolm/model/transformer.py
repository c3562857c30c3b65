"""The model: a decoder-only transformer whose pieces the config chooses.

In: ids (B, T), padded on the right (training) or on the left (`Cache.starts`). Out: hidden vectors, logits, nats.
Knows no tokenizer, no device policy and no optimizer. bf16 is the caller's: `torch.autocast` around training and
evaluation (parameters stay fp32), `model.to(torch.bfloat16)` for generation, as is `quantize.py`. `model.compile()`
compiles the trunk (`forward`); the loss stays outside.
"""

from collections.abc import Callable
from typing import Any, Optional, cast

import torch
from torch import Tensor, nn

from nanolm.errors import ConfigError
from nanolm.model.attention import Attention, visible
from nanolm.model.cache import Cache
from nanolm.model.config import ModelConfig
from nanolm.model.layers import MLP, Dropout, Embedding, LayerNorm, RMSNorm, make_norm
from nanolm.model.loss import compute_dtype, linear_cross_entropy, token_nats
from nanolm.model.positions import rotary_tables, sinusoid_table
from nanolm.model.width import Kind, embedding_std, initialise, kinds


class Block(nn.Module):
    """Attention, then MLP, each added to the stream; norms stand before them (pre) or after the sum (post)."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.pre = config.norm_position == "pre"
        self.attention_norm, self.attention = make_norm(config), Attention(config, index)
        self.mlp_norm, self.mlp = make_norm(config), MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, *how: Any) -> Tensor:
        """x (B, T, dims) -> the same shape; `how` is what Attention.forward takes beside x."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), *how))
            return x + self.dropout(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, *how)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class Transformer(nn.Module):
    """ids -> hidden -> logits, for at most `context` tokens of a vocabulary of `vocab_size`."""

    position_table: Tensor
    position_sines: Optional[Tensor]

    def __init__(self, config: ModelConfig, vocab_size: int, context: int) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, context
        self.traced: Optional[Callable[[Transformer, Tensor, Cache], Tensor]] = None  # does the steps of one token
        self.embedding = Embedding(vocab_size, config.dims)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.nblocks))
        self.norm = make_norm(config) if config.norm_position == "pre" else None
        self.output = None if config.tied else nn.Linear(config.dims, vocab_size, config.biases)
        if self.device.type == "meta":
            return  # shapes are all that is asked for, and arithmetic on them imports torch's compiler: 1.5 seconds
        if config.positions == "rotary":
            first, second = rotary_tables(context, config.head_dims)
        else:
            first, second = sinusoid_table(context, config.dims) * embedding_std(config.tied), None
        self.register_buffer("position_table", first, persistent=False)
        self.register_buffer("position_sines", second, persistent=False)
        initialise(self)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.embedding.weight.device

    @property
    def last_norm(self) -> RMSNorm | LayerNorm:
        """The norm whose output the output layer reads."""
        return cast(Block, self.blocks[-1]).mlp_norm if self.norm is None else self.norm

    @property
    def output_weight(self) -> Tensor:
        """(V, dims); the embedding's where tied."""
        return self.embedding.weight if self.output is None else self.output.weight

    def forward(self, ids: Tensor, cache: Optional[Cache] = None, attentions: Optional[list[Tensor]] = None) -> Tensor:
        """ids (B, T) -> hidden (B, T, dims), final norm applied.

        With a cache, ids are the next T tokens of each row, and are added to it. With a list `attentions`, each block
        appends its weights (B, heads, T, N). Raises ConfigError where the tokens exceed the context.
        """
        past, tokens, starts = (cache.length, ids.shape[1], cache.starts) if cache else (0, ids.shape[1], None)
        if past + tokens > self.context:
            raise ConfigError(f"model.context={self.context}: {past + tokens} tokens don't fit; shorten the text")
        where: slice | Tensor = slice(past, past + tokens)
        if starts is not None:
            where = (torch.arange(past, past + tokens, device=ids.device) - starts[:, None]).clamp_min_(0)  # (B, T)
        columns = cache.columns(tokens) if cache else None
        return self.read(ids, where, visible(past, tokens, starts, ids.device), columns, attentions)

    def read(self, ids: Tensor, where: slice | Tensor, *how: Any) -> Tensor:
        """As `forward`, with the positions `where`, (T,) or (B, T), given; how: what Attention takes after `angles`."""
        x = self.embedding(ids)
        x = x.to(compute_dtype(x))
        table, angles = self.position_table[where].to(x.dtype), None
        if self.position_sines is None:
            x = x + table
        else:
            angles = (table, self.position_sines[where].to(x.dtype))
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, angles, *how)
        return x if self.norm is None else self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., dims) -> float32 (..., V)."""
        return (self.embedding.product(hidden) if self.output is None else self.output(hidden)).float()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets (B, T) that aren't -100; the logits of a batch never exist at once."""
        bias = None if self.output is None else self.output.bias
        return linear_cross_entropy(self(ids).flatten(0, 1), self.output_weight, bias, targets.flatten())

    @torch.no_grad()
    def nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        """float32 (B, T): the nats of each target, 0 where it is -100."""
        return token_nats(self(ids).flatten(0, 1), self.logits, targets.flatten(), self.vocab_size).view_as(targets)

    @torch.no_grad()
    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """Reads the next tokens (B, T) of each row into the cache; float32 logits (B, V) of what follows."""
        if self.traced is not None and ids.shape[1] == 1 and cache.length < self.context:
            return self.traced(self, ids, cache)
        return self.logits(self.forward(ids, cache)[:, -1])

    def new_cache(self, batch: int, starts: Optional[Tensor] = None) -> Cache:
        """An empty cache of `batch` rows; starts (batch,): how many columns of padding each row has on its left."""
        config, weight = self.config, self.last_norm.weight  # of the activations' dtype, whatever the matrices are in
        shape = (config.nblocks, batch, config.key_heads, self.context, config.head_dims)
        return Cache(shape, weight.detach().to(compute_dtype(weight)), starts)

    def summary(self) -> dict[str, int]:
        """Parameters per part: embedding, attention, mlp, norms, output (0 where it is the embedding)."""
        parts = dict.fromkeys(("embedding", "attention", "mlp", "norms", "output"), 0)
        for name, parameter in self.named_parameters():
            part = name.split(".")[0] if not name.startswith("blocks") else name.split(".")[2]
            parts["norms" if "norm" in name else part] += parameter.numel()
        return parts

    def kinds(self) -> list[Kind]:
        """The parameters by kind, with the share of the learning rate that this width wants."""
        return kinds(self)
