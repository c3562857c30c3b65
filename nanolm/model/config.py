"""The shape of a model: which pieces, how many, how wide.

In: plain values from `conf/model/*.yaml`. Out: a checked ModelConfig. Knows no torch, no vocabulary and no data
(`context=None` means that the data chooses it).
"""

from dataclasses import dataclass
from typing import Optional

from nanolm.config import between, knob, one_of
from nanolm.errors import ConfigError

NORMS = ("rms", "layer")
NORM_POSITIONS = ("pre", "post")
POSITIONS = ("rotary", "sinusoidal", "alibi", "none")
MLPS = ("swiglu", "gelu", "relu", "relu2", "single")
IGNORE = -100  # the target that no loss counts
BASE_DIMS = 256  # the width at which a learning rate means what it says


@dataclass
class ModelConfig:
    """A decoder-only transformer; the defaults are the modern arrangement (that of Qwen3)."""

    name: str = "custom"
    dims: int = knob(256, "width of the residual stream")
    heads: int = knob(4, "query heads")
    nblocks: int = knob(6, "depth")
    kv_heads: Optional[int] = knob(None, "key and value heads; null: heads")
    hidden: Optional[int] = knob(None, "width inside the MLP; null: 8/3 dims rounded up to 64 for swiglu, else 4 dims")
    context: Optional[int] = knob(None, "in tokens; null: the longest training document, at most 1,024")
    norm: str = knob("rms", "rms | layer")
    norm_position: str = knob("pre", "pre | post: before attention and MLP, or after the sum")
    positions: str = knob("rotary", "rotary | sinusoidal | alibi | none")
    mlp: str = knob("swiglu", "swiglu | gelu | relu | relu2 | single: the last is one ReLU layer of dims x dims")
    tied: bool = knob(True, "the output layer is the embedding")
    qk_norm: bool = knob(True, "queries and keys are normed")
    biases: bool = knob(False, "in the linear layers")
    attention_output: bool = knob(True, "the projection after the heads")
    spelling: int = knob(0, "rows for pieces of words: those spelt alike learn together; 0: none, as characters have")
    ngrams: int = knob(1, "longest run of last tokens that has an embedding of its own; 1: none but the token's")
    ngram_rows: int = knob(32768, "of the table for runs of each length, which they are hashed into")
    dropout: float = knob(0.0, "on the embedding and on what each attention and MLP adds")

    def __post_init__(self) -> None:
        for key in ("dims", "heads", "kv_heads", "hidden"):
            between(f"model.{key}", getattr(self, key), 1, 2**20)
        between("model.nblocks", self.nblocks, 1, 1000)
        between("model.context", self.context, 2, 2**17)
        between("model.spelling", self.spelling, 0, 2**24)
        between("model.ngrams", self.ngrams, 1, 6)
        between("model.ngram_rows", self.ngram_rows, 1, 2**24)
        between("model.dropout", self.dropout, 0, 0.95)
        one_of("model.norm", self.norm, NORMS)
        one_of("model.norm_position", self.norm_position, NORM_POSITIONS)
        one_of("model.positions", self.positions, POSITIONS)
        one_of("model.mlp", self.mlp, MLPS)
        if self.dims % self.heads:
            raise ConfigError(f"model.dims={self.dims}: must be a multiple of model.heads={self.heads}")
        if self.heads % self.key_heads:
            raise ConfigError(f"model.heads={self.heads}: must be a multiple of model.kv_heads={self.kv_heads}")
        if self.positions == "rotary" and self.head_dims % 2:
            raise ConfigError(
                f"model.dims={self.dims}: rotary positions need an even dims / heads, not {self.head_dims}; "
                "change model.dims or model.heads, or set model.positions=sinusoidal"
            )
        if self.mlp == "single" and self.hidden is not None:
            raise ConfigError(f"model.hidden={self.hidden}: model.mlp=single has none; use model.hidden=null")

    @property
    def head_dims(self) -> int:
        """The width of one head."""
        return self.dims // self.heads

    @property
    def key_heads(self) -> int:
        """The number of key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def hidden_dims(self) -> int:
        """The width inside the MLP."""
        if self.hidden is not None:
            return self.hidden
        return -(-self.dims * 8 // (3 * 64)) * 64 if self.mlp == "swiglu" else 4 * self.dims


def check_fits(context: int, tokens: int) -> None:
    """ConfigError where so many tokens exceed the context."""
    if tokens > context:
        raise ConfigError(f"model.context={context}: {tokens} tokens don't fit; shorten the text")
