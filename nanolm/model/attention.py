"""Causal self-attention with optional grouped key heads, qk-norm, rotary positions and a cache.

Shapes: B rows, T new tokens, N tokens to look at (T, or all in the cache), H query heads, K key heads, D head dims.
In and out: (B, T, dims). Knows no ids, and of positions only the angles and the mask that it is handed.
"""

from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.model.cache import Columns
from nanolm.model.config import ModelConfig
from nanolm.model.layers import RMSNorm, Stacked, rms_norm
from nanolm.model.positions import Angles, rotate

SHORT = 512  # up to so many queries the plain products beat the fused kernel in bf16 on a CPU, by 2 or 3 times


@dataclass
class AttentionInputs:
    """What attention takes beside x: the same in all blocks of one pass."""

    angles: Optional[Angles] = None  # of the rotary turn
    mask: Optional[Tensor] = None  # broadcasts to (B, H, T, N): bool, or a bias that is added; None: causal if T > 1
    attentions: Optional[list[Tensor]] = None  # each block appends its weights (B, H, T, N)


def dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor], attentions: Optional[list[Tensor]]
) -> Tensor:
    """softmax(q k' / sqrt(D) + mask) v: q (B, H, T, D); k, v (B, K, N, D) -> (B, H, T, D); see AttentionInputs."""
    # bool: while a step is recorded, sizes are tensors
    causal, grouped = mask is None and bool(q.shape[2] > 1), bool(q.shape[1] != k.shape[1])
    short = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= SHORT
    if attentions is None and not short:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=grouped)
    if grouped:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1)
    if attentions is not None:
        attentions.append(weights)
    return weights @ v


class Attention(nn.Module):
    """(B, T, dims) -> (B, T, dims). Queries and keys are normed and turned together: half of the calls."""

    gains: Optional[Tensor]  # of both norms (H + K, D), made once for a model that only writes

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dims = config.head_dims
        self.heads = [config.heads, config.key_heads, config.key_heads]
        self.qkv = Stacked(config.dims, [heads * self.head_dims for heads in self.heads], config.biases)
        self.output = nn.Linear(config.dims, config.dims, config.biases) if config.attention_output else None
        self.q_norm = RMSNorm(self.head_dims) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dims) if config.qk_norm else None
        self.register_buffer("gains", None, persistent=False)

    def both_gains(self) -> Optional[Tensor]:
        """(H + K, D): by which the normed queries and keys are multiplied; None: they aren't normed."""
        if self.q_norm is None or self.k_norm is None or self.gains is not None:
            return self.gains
        queries, keys, _ = self.heads
        return torch.cat((self.q_norm.weight.expand(queries, -1), self.k_norm.weight.expand(keys, -1)))

    def forward(self, x: Tensor, inputs: AttentionInputs, columns: Optional[Columns] = None) -> Tensor:
        queries, keys, values = self.heads
        both, v = self.qkv(x).unflatten(-1, (-1, self.head_dims)).split([queries + keys, values], 2)
        gains = self.both_gains()
        if gains is not None:
            both = rms_norm(both, gains)
        if inputs.angles is not None:
            both = rotate(both, inputs.angles)
        q, k = both.transpose(1, 2).split([queries, keys], 1)  # (B, H or K, T, D)
        v = v.transpose(1, 2)
        if self.training and x.device.type == "cpu":
            v = v.contiguous()  # else all of qkv is kept for the way back, of which nothing more is needed
        if columns is not None:
            k, v = columns.put(k, v)  # (B, K, N, D)
        out = dot_product_attention(q, k, v, inputs.mask, inputs.attentions).transpose(1, 2).flatten(2)  # (B, T, dims)
        return out if self.output is None else self.output(out)
