"""Causal self-attention with optional grouped key heads, qk-norm, rotary positions and a cache.

Shapes: B rows, T new tokens, N tokens to look at (T, or all in the cache), H query heads, K key heads, D head dims.
In and out: (B, T, dims). Knows no ids and no padding but the mask it is handed.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanolm.model.cache import Columns
from nanolm.model.config import ModelConfig
from nanolm.model.layers import RMSNorm, Stacked
from nanolm.model.positions import rotate

SHORT = 512  # up to so many queries the plain products beat the fused kernel in bf16 on a CPU, by 2 or 3 times


def visible(length: int, tokens: int, starts: Optional[Tensor], device: torch.device) -> Optional[Tensor]:
    """Who may look where: bool (tokens, N) or (B, 1, tokens, N) with N = length + tokens; None: the kernel knows.

    A padding row sees itself, so that its softmax is finite; nobody else sees it.
    """
    if starts is None and (length == 0 or tokens == 1):
        return None
    column = torch.arange(length + tokens, device=device)
    row = column[length:, None]
    if starts is None:
        return column <= row
    return ((column <= row) & (column >= starts[:, None, None]) | (column == row)).unsqueeze(1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor], attentions: Optional[list[Tensor]]) -> Tensor:
    """softmax(q k' / sqrt(D)) v: q (B, H, T, D); k, v (B, K, N, D) -> (B, H, T, D). Without a mask: causal if T > 1.

    With a list `attentions` the weights (B, H, T, N) are computed openly and appended to it.
    """
    # bool: while a step is recorded, sizes are tensors
    causal, grouped = mask is None and bool(q.shape[2] > 1), bool(q.shape[1] != k.shape[1])
    short = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= SHORT
    if attentions is None and not short:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=grouped)
    if grouped:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    weights = (scores if mask is None else scores.masked_fill_(~mask, -torch.inf)).softmax(-1)
    if attentions is not None:
        attentions.append(weights)
    return weights @ v


class Attention(nn.Module):
    """(B, T, dims) -> (B, T, dims)."""

    def __init__(self, config: ModelConfig, block: int) -> None:
        super().__init__()
        self.block, self.head_dims = block, config.head_dims
        self.heads = [config.heads, config.key_heads, config.key_heads]
        self.qkv = Stacked(config.dims, [heads * self.head_dims for heads in self.heads], config.biases)
        self.output = nn.Linear(config.dims, config.dims, config.biases) if config.attention_output else None
        self.q_norm, self.k_norm = (RMSNorm(self.head_dims) if config.qk_norm else None for _ in "qk")

    def forward(
        self,
        x: Tensor,
        angles: Optional[tuple[Tensor, Tensor]],
        mask: Optional[Tensor] = None,
        columns: Optional[Columns] = None,
        attentions: Optional[list[Tensor]] = None,
    ) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dims)).split(self.heads, 2)  # (B, T, H or K, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, D)
        if columns is not None:
            k, v = columns.put(self.block, k, v)
        out = attend(q, k, v, mask, attentions).transpose(1, 2).flatten(2)  # (B, T, dims)
        return out if self.output is None else self.output(out)
