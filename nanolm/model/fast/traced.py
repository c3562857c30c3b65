"""A decoding step as one call into torch: Python's part in a few hundred small operations is half of an int8 step.

In: a Transformer on a CPU whose weights are not to change any more. Out: its `step`, to the bit, in less time (`base`
on 2 cores: int8 half of it, fp32 75 to 90%). torch.jit records the operations of one step; what it can't record goes on
as before. torch means to drop it one day in favour of compilers, which take many times its quarter of a second.
"""

import contextlib
import threading
import warnings
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from nanolm.model.cache import Cache, Columns
from nanolm.model.fast.packed import FEW, lay_out
from nanolm.model.transformer import Transformer

AFTER = 100  # steps: what a recording costs is saved in about so many
_lock = threading.Lock()  # torch records one module at a time


class _Step(nn.Module):
    """ids (B, 1) and the cache's columns up to them -> logits (B, V)."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, *columns: Tensor) -> Tensor:  # a recording takes tensors alone
        return self.model.logits(self.model(ids, Columns(*columns))[:, -1])


class Traced:
    """One token of each row into the cache; recorded after 100 steps of a kind, for all that follow."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[bool, bool]] = Counter()
        self.traces: dict[tuple[bool, bool], Any] = {}  # None: could not be recorded

    def __call__(self, model: Transformer, ids: Tensor, cache: Cache) -> Tensor:
        """As Transformer.step, for ids (B, 1) where the context has room."""
        columns = cache.columns(1)
        given = (ids, *(tensor for tensor in columns if tensor is not None))
        kind = (len(ids) in FEW, columns.starts is None)
        self.seen[kind] += 1
        if self.seen[kind] > AFTER and kind not in self.traces:
            self._record(kind, _Step(model), given)
        logits: Tensor = (self.traces.get(kind) or _Step(model))(*given)
        return logits

    def _record(self, kind: tuple[bool, bool], step: _Step, given: tuple[Any, ...]) -> None:
        # the warnings: that it will be dropped, and that the sizes of tensors are numbers
        with _lock, warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as after:
            if kind in self.traces:
                return
            self.traces[kind] = None
            with contextlib.suppress(Exception):  # of a torch that can no longer do it
                # its first calls take a fifth of a second more where torch looks for shapes that stay the same
                after.callback(torch._C._jit_set_profiling_mode, torch._C._jit_set_profiling_mode(False))
                made = torch.jit.trace(step, given, check_trace=False)
                if torch.equal(made(*given), step(*given)):  # what they write into the cache is the same, too
                    self.traces[kind] = made


def ready_to_write(model: Transformer) -> None:
    """Lays out the weights of a model that will not learn any more, and has its steps recorded on a CPU."""
    lay_out(model)
    if model.device.type == "cpu":
        model.traced = Traced()
