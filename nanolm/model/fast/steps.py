"""Steps that read one new token of each row: the model's own operations, without the calls that prepare them.

In: a Transformer on a CPU whose weights are not to change any more. Out: its `step`, to the bit, in half to two thirds
of the time. A step is hundreds of calls of a microsecond or two, and every second one only makes a tensor or a view
like that of the step before; here these are made once for a number of rows. All but the products is in fp32.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import torch
from torch import Tensor, nn

from nanolm.model.attention import AttentionInputs, dot_product_attention
from nanolm.model.cache import Cache, Columns
from nanolm.model.fast.packed import FEW, Packed
from nanolm.model.layers import Embedding, RMSNorm, rms_norm_into, swiglu
from nanolm.model.positions import places
from nanolm.model.transformer import Block, Transformer

Map = Callable[[Tensor], Tensor]  # x (B, n) -> (B, m)


class Room:
    """What a step of so many rows writes into, block after block, and the views it takes of that."""

    def __init__(self, model: Transformer, rows: int) -> None:
        config, hidden = model.config, len(model.blocks[0].mlp.up.weight)
        queries, keys, width = config.heads, config.key_heads, config.head_dims
        both = queries + keys
        with torch.inference_mode(False):  # so that every mode may write into it
            self.rows, self.normed, self.inverse = rows, torch.empty(rows, config.dims), torch.empty(rows, 1)
            self.qkv, self.up = torch.empty(rows, (both + keys) * width), torch.empty(rows, hidden)
            self.inverses = torch.empty(rows, both, 1)
            twice = torch.empty(rows, both, width + width // 2)  # the first half again at the end: a roll is a view
        qkv = self.qkv.view(rows, -1, width)
        self.both = qkv[:, :both]
        self.straight, self.rolled = twice[..., :width], twice[..., width // 2 :]
        self.first, self.again = twice[..., : width // 2], twice[..., width:]
        self.q, self.k, self.v = qkv.unsqueeze(2).split([queries, keys, keys], 1)  # (rows, heads, 1, width)
        self.gate, self.value = self.up[:, : hidden // 2], self.up[:, hidden // 2 :]  # of swiglu


class BlockStep:
    """What a Block does with x (B, dims), one token of each row; x itself is changed."""

    def __init__(self, block: Block, room: Room) -> None:
        attention, mlp, rows = block.attention, block.mlp, room.rows
        self.pre, self.room = block.pre, room
        self.attention_norm, self.mlp_norm = norm_step(block.attention_norm, room), norm_step(block.mlp_norm, room)
        self.qkv, self.up = product(attention.qkv, rows, room.qkv), product(mlp.up, rows, room.up)
        self.output, self.down = product(attention.output, rows), product(mlp.down, rows)
        self.gains, self.activation = attention.both_gains(), mlp.activation

    def __call__(self, x: Tensor, inputs: AttentionInputs, columns: Columns) -> Tensor:
        if self.pre:
            x.add_(self.attention(self.attention_norm(x), inputs, columns))
            return x.add_(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x.add_(self.attention(x, inputs, columns)))
        return self.mlp_norm(x.add_(self.mlp(x)))

    def attention(self, x: Tensor, inputs: AttentionInputs, columns: Columns) -> Tensor:
        """Attention.forward. Queries and keys are normed into `straight` and turned back into their place."""
        room = self.room
        self.qkv(x)
        if self.gains is not None:
            rms_norm_into(room.straight, room.both, self.gains, room.inverses)
        if inputs.angles is not None:
            if self.gains is None:
                room.straight.copy_(room.both)
            room.again.copy_(room.first)
            torch.mul(room.straight, inputs.angles[0], out=room.both).addcmul_(room.rolled, inputs.angles[1])
        elif self.gains is not None:
            room.both.copy_(room.straight)
        keys, values = columns.put(room.k, room.v)
        return self.output(dot_product_attention(room.q, keys, values, inputs.mask, None).reshape(room.rows, -1))

    def mlp(self, x: Tensor) -> Tensor:
        """MLP.forward."""
        up = self.up(x)
        if self.activation is swiglu:
            return self.down(nn.functional.silu(self.room.gate).mul_(self.room.value))
        return self.down(self.activation(up))


class RowsSteps:
    """What Transformer.step does with ids (B, 1) of so many rows."""

    def __init__(self, model: Transformer, rows: int) -> None:
        self.rows, room = rows, Room(model, rows)
        self.embedding, self.ngrams, self.positions = model.embedding, model.ngrams, model.positions
        self.blocks = [BlockStep(block, room) for block in model.blocks]
        self.norm = norm_step(model.norm, room)
        self.output = product(model.embedding if model.output is None else model.output, rows)

    def __call__(self, ids: Tensor, cache: Cache) -> Tensor:
        past, starts, columns = cache.length, cache.starts, cache.columns(1)
        where, text = places(1, past + 1, starts, ids.device), cache.follow(ids)
        x = self.embedding(ids)
        if self.ngrams is not None:
            x = x + self.ngrams(text)
        x = self.positions.add(x, where)
        angles = self.positions.angles(x, where)
        if angles and starts is not None:
            angles = angles[0][:, 0], angles[1][:, 0]
        inputs = AttentionInputs(angles, self.positions.mask(x, past + 1, starts))
        x = x[:, 0]
        for block, of_block in zip(self.blocks, columns, strict=True):
            x = block(x, inputs, of_block)
        return self.output(self.norm(x))


class Steps:
    """The same for any number of rows. What they write into belongs to one thread."""

    def __init__(self) -> None:
        self.own = threading.local()

    def __call__(self, model: Transformer, ids: Tensor, cache: Cache) -> Tensor:
        """Reads the next token of each row into the cache; float32 logits (B, V). Raises ConfigError: no room."""
        steps = getattr(self.own, "steps", None)
        if steps is None or steps.rows != len(ids):
            steps = self.own.steps = RowsSteps(model, len(ids))
        return steps(ids, cache)


def norm_step(norm: Optional[nn.Module], room: Room) -> Map:
    """The norm of x (B, dims); x itself where there is none."""
    if not isinstance(norm, RMSNorm):
        return norm or (lambda x: x)
    weight = norm.weight.detach()
    return lambda x: rms_norm_into(room.normed, x, weight, room.inverse)


def product(module: Any, rows: int, out: Optional[Tensor] = None) -> Map:
    """x (rows, n) -> x weight' + bias of a linear map, in `out` if it is given; x itself where there is no map."""
    if module is None:
        return lambda x: x
    fresh, bias = module.product if hasattr(module, "product") else module, getattr(module, "bias", None)
    if isinstance(module, nn.Linear | Embedding) or (isinstance(module, Packed) and rows not in FEW):
        weight = module.weight.detach()
        if bias is None:
            weight = weight.T
            return lambda x: torch.mm(x, weight, out=out)
        fresh = partial(nn.functional.linear, weight=weight, bias=bias.detach())
    return fresh if out is None else lambda x: out.copy_(fresh(x))
