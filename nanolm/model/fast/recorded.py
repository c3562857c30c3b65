"""Blocks that read one new token in one call into torch: Python's part in small operations is half of an int8 step.

In: a Transformer on a CPU whose weights are not to change any more. Out: the same, to the bit, in less time.
torch.jit records what the first block does, in about 30 ms; the others get the recording with their own weights in it.
torch means to drop it one day in favour of compilers, which take seconds for a start. Where it can't be had, a line on
stderr says so, and the blocks stay as they were.
"""

import copy
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from nanolm.model.attention import AttentionInputs
from nanolm.model.cache import Columns
from nanolm.model.fast.packed import FEW, lay_out
from nanolm.model.transformer import Block, Transformer

AFTER = 100  # steps: torch optimizes a recording then, which takes 60 ms and makes small models a tenth faster
Step = Callable[..., Tensor]  # (x (B, 1, dims), the tensors of AttentionInputs and Columns that there are) -> like x


class Kind(NamedTuple):
    """What a recording holds for: steps that differ in it take other operations."""

    few: bool  # rows: the products of Packed
    turned: bool  # by rotary angles
    masked: bool

    def unpack(self, tensors: tuple[Tensor, ...]) -> tuple[AttentionInputs, Columns]:
        """What the tensors of a step stand for: a recording takes tensors alone."""
        left = list(tensors)
        angles = (left.pop(0), left.pop(0)) if self.turned else None
        mask = left.pop(0) if self.masked else None
        return AttentionInputs(angles, mask), Columns(*left)


class RecordedBlock(Block):
    """The block, its parts under the same names; its steps of one token run as recorded."""

    def __init__(self, block: Block, recorder: "Recorder") -> None:
        nn.Module.__init__(self)
        self.pre, self.recorder = block.pre, recorder
        self.calls = 0
        self.steps: dict[Kind, Optional[Step]] = {}  # None: not recorded, for a reason that was told
        for name, part in block.named_children():
            self.add_module(name, part)

    def forward(self, x: Tensor, inputs: AttentionInputs, columns: Optional[Columns] = None) -> Tensor:
        if columns is None or x.shape[1] > 1 or inputs.attentions is not None or torch.is_grad_enabled():
            return super().forward(x, inputs, columns)
        kind = Kind(len(x) in FEW, inputs.angles is not None, inputs.mask is not None)
        tensors = (*(inputs.angles or ()), *([] if inputs.mask is None else [inputs.mask]), *columns)
        step = self.steps.get(kind)
        if step is not None:
            self.calls += 1
            if self.calls > AFTER:
                return step(x, *tensors)
            with torch.jit.optimized_execution(False):
                return step(x, *tensors)
        out = super().forward(x, inputs, columns)
        if kind not in self.steps:
            self.steps[kind] = self.recorder.step(self, kind, (x, *tensors), out)
        return out


class Recorder:
    """Makes the recordings of one model: one of each kind, and a copy of it for every block."""

    def __init__(self) -> None:
        self.recordings: dict[Kind, Any] = {}
        self.works = True
        self.lock = threading.Lock()  # torch records one module at a time

    def step(self, block: Block, kind: Kind, given: tuple[Tensor, ...], out: Tensor) -> Optional[Step]:
        """The recorded step of a block that makes `out` of `given`; None where it can't be had."""
        with self.lock:
            if not self.works:
                return None
            try:
                step = self._step(block, kind, given)
            except (RuntimeError, AttributeError) as error:  # what torch.jit can't do, or has no longer
                self._give_up(str(error).strip().split("\n")[0])
                return None
        with torch.jit.optimized_execution(False):
            if torch.equal(step(*given), out):
                return step
        self._give_up("they come out differently")
        return None

    def _step(self, block: Block, kind: Kind, given: tuple[Tensor, ...]) -> Step:
        if kind not in self.recordings:
            with warnings.catch_warnings(action="ignore"):  # that it will be dropped; that sizes are taken as they are
                self.recordings[kind] = torch.jit.trace(_Flat(block, kind), given, check_trace=False)
        module = copy.copy(self.recordings[kind]._c)  # shares the recorded operations
        for name, weight in weights(block).items():
            module.setattr(name, weight)
        step: Step = module._get_method("forward")
        return step

    def _give_up(self, reason: str) -> None:
        self.works = False
        line = f"steps can't be recorded, so writing takes longer ({reason}); recorded=false leaves them as they are"
        print(line, file=sys.stderr)


class _Flat(nn.Module):
    """A block's step, its weights as attributes without a hierarchy, so that others can be put in their place."""

    def __init__(self, block: Block, kind: Kind) -> None:
        super().__init__()
        self.plain = (block, kind)  # not registered
        for name, weight in weights(block).items():
            if isinstance(weight, Tensor):
                self.register_buffer(name, weight)
            else:
                setattr(self, name, weight)

    def forward(self, x: Tensor, *tensors: Tensor) -> Tensor:
        block, kind = self.plain
        return Block.forward(block, x, *kind.unpack(tensors))


def weights(block: Block) -> dict[str, Any]:
    """All tensors of a block, and int8 matrices as fbgemm has them, by names without dots."""
    found: dict[str, Any] = dict(block.named_parameters()) | dict(block.named_buffers())
    for name, part in block.named_modules():
        packed = getattr(part, "_packed", None)
        if packed is not None:
            found[f"{name}._packed"] = packed
    return {name.replace(".", "__"): weight for name, weight in found.items()}


def ready_to_write(model: Transformer, recorded: bool = True) -> None:
    """Lays out the weights of a model that will not learn any more; `recorded`: has its steps recorded on a CPU."""
    lay_out(model)
    if recorded and model.device.type == "cpu":
        recorder = Recorder()
        model.blocks = nn.ModuleList(RecordedBlock(block, recorder) for block in model.blocks)
