"""The shape of a model: which pieces, how many, how wide.

In: plain values from `conf/model/*.yaml`. Out: a checked ModelConfig. Knows no torch, no vocabulary and no data
(`context=None` means that the data chooses it).
"""

from dataclasses import dataclass
from typing import Optional

from nanolm.config import between, one_of
from nanolm.errors import ConfigError

NORMS = ("rms", "layer")
NORM_POSITIONS = ("pre", "post")
POSITIONS = ("rotary", "sinusoidal")
MLPS = ("swiglu", "gelu", "relu", "relu2", "single")


@dataclass
class ModelConfig:
    """A decoder-only transformer; the defaults are the modern arrangement (that of Qwen3).

    dims: width of the residual stream; heads: query heads; kv_heads: key and value heads (None: heads); nblocks: depth;
    hidden: width inside the MLP (None: 8/3 dims rounded up to 64 for swiglu, else 4 dims); context: in tokens
    (None: chosen by the data). mlp `single` is one ReLU layer of dims x dims. attention_output: the projection after
    the heads. dropout: on the embedding and on what each attention and MLP adds.
    """

    name: str = "custom"
    dims: int = 256
    heads: int = 4
    nblocks: int = 6
    kv_heads: Optional[int] = None
    hidden: Optional[int] = None
    context: Optional[int] = None
    norm: str = "rms"
    norm_position: str = "pre"
    positions: str = "rotary"
    mlp: str = "swiglu"
    tied: bool = True
    qk_norm: bool = True
    biases: bool = False
    attention_output: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for key in ("dims", "heads", "kv_heads", "hidden"):
            between(f"model.{key}", getattr(self, key), 1, 2**20)
        between("model.nblocks", self.nblocks, 1, 1000)
        between("model.context", self.context, 2, 2**17)
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
