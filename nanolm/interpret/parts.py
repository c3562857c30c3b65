"""What each part of a model adds to its residual stream: the embedding, every head, every MLP.

In: a model and the ids of a text. Out: vectors, by forward hooks on the model's own modules; and the same hooks to
switch a part off. L blocks, H heads, T tokens, D dims. Knows no text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Optional, cast

import torch
from torch import Tensor

from nanolm.model.transformer import Block, Transformer


@dataclass
class Parts:
    """Vectors of one text. With norms before the layers, embedding + heads + biases + mlps = the last stream."""

    stream: Tensor  # (L + 1, T, D): before the first block and after each
    heads: Tensor  # (L, H, T, D)
    biases: Tensor  # (L, D): what the projection after the heads adds by itself
    mlps: Tensor  # (L, T, D)


@dataclass(frozen=True)
class Part:
    """A head of a block, or its MLP; both counted from 0."""

    block: int
    head: Optional[int] = None  # None: the MLP

    def __str__(self) -> str:
        return f"layer {self.block + 1} " + ("MLP" if self.head is None else f"head {self.head + 1}")


def all_parts(model: Transformer) -> list[Part]:
    """Every head and MLP, block after block."""
    heads: list[Optional[int]] = [*range(model.config.heads), None]
    return [Part(block, head) for block in range(model.config.nblocks) for head in heads]


@torch.inference_mode()
def collect_parts(model: Transformer, ids: Sequence[int]) -> Parts:
    """The parts of one text; at most the context."""
    stream, mixed, mlps = list[Tensor](), list[Tensor](), list[Tensor]()
    with ExitStack() as hooks:
        for block in model_blocks(model):
            hooks.enter_context(block.register_forward_pre_hook(lambda module, args: stream.append(args[0][0])))
            hooks.enter_context(on_heads(block, lambda x: mixed.append(x[0])))
            hooks.enter_context(block.mlp.register_forward_hook(lambda module, args, out: mlps.append(out[0])))
        last = model_blocks(model)[-1].register_forward_hook(lambda module, args, out: stream.append(out[0]))
        hooks.enter_context(last)
        model(torch.tensor([ids], device=model.device))
    heads, biases = zip(*map(by_head, model_blocks(model), mixed), strict=True)
    return Parts(torch.stack(stream), torch.stack(heads), torch.stack(biases), torch.stack(mlps))


def model_blocks(model: Transformer) -> list[Block]:
    """The model's blocks."""
    return [cast(Block, block) for block in model.blocks]


def by_head(block: Block, mixed: Tensor) -> tuple[Tensor, Tensor]:
    """What each head adds, (H, T, D), and the projection's bias (D,); mixed (T, D): what the heads have gathered."""
    heads, size = block.attention.heads[0], block.attention.head_dims
    output = block.attention.output
    weight = torch.eye(heads * size, dtype=mixed.dtype, device=mixed.device) if output is None else output.weight
    added = torch.einsum("thd,ohd->hto", mixed.unflatten(-1, (heads, size)), weight.unflatten(-1, (heads, size)))
    bias = None if output is None else output.bias
    return added, added.new_zeros(added.shape[-1]) if bias is None else bias


def on_heads(block: Block, see: Callable[[Tensor], Any]) -> Any:
    """A hook that calls `see` with what the heads have gathered (B, T, D), and puts what it returns in its place."""
    output = block.attention.output
    if output is None:
        return block.attention.register_forward_hook(lambda module, args, out: see(out))

    def before(module: Any, args: tuple[Any, ...]) -> Any:
        changed = see(args[0])
        return None if changed is None else (changed,)

    return output.register_forward_pre_hook(before)


@contextmanager
def replaced(model: Transformer, part: Part, value: Optional[Tensor]) -> Iterator[None]:
    """The model meanwhile has `value` (D or head_dims,) where the part would give its own; None: zeros.

    A head's own is what it has gathered, before the projection.
    """
    block = model_blocks(model)[part.block]
    if part.head is None:
        hook = block.mlp.register_forward_hook(lambda module, args, out: _filled(out, slice(None), value))
    else:
        size = block.attention.head_dims
        place = slice(part.head * size, (part.head + 1) * size)
        hook = on_heads(block, lambda x: _filled(x, place, value))
    with hook:
        yield


def _filled(x: Tensor, place: slice, value: Optional[Tensor]) -> Tensor:
    x = x.clone()
    x[..., place] = 0 if value is None else value.to(x.dtype)
    return x
