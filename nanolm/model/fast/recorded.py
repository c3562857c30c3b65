"""Steps that read one new token in one call into torch: Python's part in a product with packed weights is most of it.

In: a Transformer on a CPU whose weights are not to change any more. Out: its `step`, to the bit, in less time: by
`steps.py`, and where matrices are packed (int8, bf16) recorded, once it pays. torch.jit records what the first block
does, gives each other block the recording with that block's weights in it, and records the whole step over these: 40 to
60 ms in all, which some hundred steps save. How many are to come nobody knows, so a process that writes one short text
records nothing. torch means to drop it one day in favour of compilers, which take seconds for a start. Where it can't
be had, a line on stderr says so, and the steps stay as they were.
"""

import copy
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nanolm.model.attention import AttentionInputs
from nanolm.model.cache import Cache, Columns
from nanolm.model.fast.int8 import Int8Linear, pack_all
from nanolm.model.fast.packed import EARLY, Half, lay_out, multiplied, row_group
from nanolm.model.fast.steps import Steps
from nanolm.model.positions import places
from nanolm.model.transformer import Transformer

WAIT = EARLY  # steps of a kind, before it is recorded, its weights packed for good
AFTER = 100  # recorded steps: torch optimizes a recording then, which takes 50 ms and makes small models faster by 7%
Step = Callable[..., Tensor]


class StepKind(NamedTuple):
    """What a recording holds for: steps that differ in it take other operations."""

    rows: int  # row_group
    padded: bool  # rows that begin late are masked


class RecordedSteps:
    """What Transformer.step does with ids (B, 1); each kind of step is recorded once WAIT of it have been taken."""

    def __init__(self) -> None:
        self.quick = Steps()
        self.taken = Counter[StepKind]()
        self.steps: dict[StepKind, Step] = {}  # what could not be recorded is here as it was
        self.works = True
        self.lock = threading.Lock()  # torch records one module at a time

    def __call__(self, model: Transformer, ids: Tensor, cache: Cache) -> Tensor:
        """Reads the next token of each row into the cache; float32 logits (B, V). Raises ConfigError: no room."""
        kind = StepKind(row_group(len(ids)), cache.starts is not None)
        with self.lock:
            self.taken[kind] += 1
            taken = self.taken[kind]
        if taken <= WAIT or not self.works:
            return self.quick(model, ids, cache)
        past, starts = cache.length, cache.starts
        text = cache.follow(ids)
        where = torch.full((1,), past) if starts is None else places(1, past + 1, starts, ids.device)
        mask = model.positions.mask(cache.keys.new_empty(1, 1, 0), past + 1, starts)
        given = (text, where, *cache.tables(1), *([] if mask is None else [mask]))
        with self.lock:
            if kind not in self.steps:
                self.steps[kind] = self._recorded(model, mask is not None, given)
        if taken > WAIT + AFTER:
            return self.steps[kind](*given)
        with torch.jit.optimized_execution(False):
            return self.steps[kind](*given)

    def _recorded(self, model: Transformer, masked: bool, given: tuple[Tensor, ...]) -> Step:
        """The recorded step of a model, tried on `given`; where that fails the plain one, for this once."""
        plain = _Step(model, [partial(read, block, masked) for block in model.blocks])
        if not self.works:
            return plain
        expected = plain(*given)
        try:
            step = recording(model, masked, given)
        except (RuntimeError, AttributeError) as error:  # what torch.jit can't do, or has no longer
            return self._given_up(plain, str(error).strip().split("\n")[0])
        with torch.jit.optimized_execution(False):
            same = torch.equal(step(*given), expected)  # what they write into the cache is the same, too
        return step if same else self._given_up(plain, "they come out differently")

    def _given_up(self, plain: Step, reason: str) -> Step:
        self.works = False
        line = f"steps can't be recorded, so writing takes longer ({reason}); recorded=false leaves them as they are"
        print(line, file=sys.stderr)
        return plain


def read(block: nn.Module, masked: bool, x: Tensor, *tensors: Tensor) -> Tensor:
    """What a block makes of x (B, 1, dims); a recording takes tensors alone: angles if any, mask if any, Columns."""
    angles_and_mask, columns = list(tensors[:-4]), Columns(*tensors[-4:])
    mask = angles_and_mask.pop() if masked else None
    angles = (angles_and_mask[0], angles_and_mask[1]) if angles_and_mask else None
    out: Tensor = block(x, AttentionInputs(angles, mask), columns)
    return out


class _Step(nn.Module):
    """Ids (B, 1) and those before them, their positions, the Columns of all blocks, a mask if any -> logits (B, V)."""

    def __init__(self, model: Transformer, blocks: Sequence[Step]) -> None:
        super().__init__()
        self.plain, self.blocks = (model,), blocks  # the model is not registered: torch would look at its blocks, too
        self.embedding, self.ngrams, self.positions = model.embedding, model.ngrams, model.positions
        self.norm, self.output = model.norm, model.output

    def forward(self, text: Tensor, where: Tensor, *tensors: Tensor) -> Tensor:
        [model], tables, mask = self.plain, tensors[:4], tensors[4:]
        x, angles = model.embed(text, where)
        for block, columns in zip(self.blocks, zip(*(table.unbind(0) for table in tables), strict=True), strict=True):
            x = block(x, *(angles or ()), *mask, *columns)
        return model.logits((x if model.norm is None else model.norm(x))[:, -1])


class _FlatBlock(nn.Module):
    """A block's step, its weights as attributes without a hierarchy, so that others can be put in their place."""

    def __init__(self, block: nn.Module, masked: bool) -> None:
        super().__init__()
        self.plain = partial(read, block, masked)  # not registered
        for name, weight in weights(block).items():
            if isinstance(weight, Tensor):
                self.register_buffer(name, weight)
            else:
                setattr(self, name, weight)

    def forward(self, x: Tensor, *tensors: Tensor) -> Tensor:
        return self.plain(x, *tensors)


def recording(model: Transformer, masked: bool, given: tuple[Tensor, ...]) -> Step:
    """The step of `given` as torch recorded it. Raises RuntimeError and AttributeError."""
    text, where, *tensors = given
    x, angles = model.embed(text, where)
    of_block = (x, *(angles or ()), *tensors[4:], *(table[0] for table in tensors[:4]))
    with warnings.catch_warnings(action="ignore"):  # that it will be dropped; that sizes are taken as they are
        first = torch.jit.trace(_FlatBlock(model.blocks[0], masked), of_block, check_trace=False)
        blocks = nn.ModuleList()
        for block in model.blocks:
            module = copy.copy(first._c)  # shares the recorded operations
            for name, weight in weights(block).items():
                module.setattr(name, weight)
            blocks.append(torch.jit._recursive.wrap_cpp_module(module))
        step: Step = torch.jit.trace(_Step(model, blocks), given, check_trace=False)
    return step


def weights(block: nn.Module) -> dict[str, Any]:
    """All tensors of a block, and int8 matrices as fbgemm has them, by names without dots."""
    found: dict[str, Any] = dict(block.named_parameters()) | dict(block.named_buffers())
    for name, part in block.named_modules():
        packed = getattr(part, "_packed", None)
        if packed is not None:
            found[f"{name}._packed"] = packed
    return {name.replace(".", "__"): weight for name, weight in found.items()}


def ready_to_write(model: Transformer, recorded: bool = True, half: bool = False) -> None:
    """Lays out the weights of a model that will not learn any more, `half`: in bf16, and makes its steps quick.

    recorded: records them where that is quicker still. All on a CPU only.
    """
    if model.device.type != "cpu":
        return
    lay_out(model, half)
    pack_all(module for module in multiplied(model) if isinstance(module, Int8Linear))
    for block in model.blocks:
        block.attention.gains = block.attention.both_gains()
    if model.new_cache(1).keys.dtype == torch.float32:
        packed = any(isinstance(module, Int8Linear | Half) for module in model.modules())
        model.quick_step = RecordedSteps() if recorded and packed else Steps()
