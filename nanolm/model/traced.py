"""A decoding step as one call into torch: what Python adds to a few hundred small operations is most of an int8 step.

In: a Transformer on a CPU whose weights are not to change any more. Out: its `step`, to the bit, in half of the time.
torch.jit records the operations of one step; what it can't record goes on as before. torch means to drop it one day
in favour of compilers, which take half a minute for what it does in a quarter of a second.
"""

import threading
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor, nn

from nanolm.model.attention import visible
from nanolm.model.cache import Cache, Columns
from nanolm.model.layout import FEW

if TYPE_CHECKING:
    from nanolm.model.transformer import Transformer

AFTER = 100  # steps: what a recording costs is saved in about so many


class _Step(nn.Module):
    """ids (B, 1), the cache's columns up to them, their positions, and a mask if any has padding -> logits (B, V)."""

    def __init__(self, model: "Transformer") -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: Tensor, keys: Tensor, values: Tensor, where: Tensor, mask: Optional[Tensor] = None
    ) -> Tensor:
        return self.model.logits(self.model.read(ids, where, mask, Columns(keys, values))[:, -1])


class Traced:
    """`step(ids, cache)` for one token of each row; records it at the 100th step of a kind, for all that follow."""

    def __init__(self, model: "Transformer") -> None:
        self.step = _Step(model).eval()
        self.seen: Counter[tuple[bool, bool]] = Counter()
        self.traces: dict[tuple[bool, bool], Any] = {}
        self.lock = threading.Lock()

    def __call__(self, ids: Tensor, cache: Cache) -> Tensor:
        past, starts = cache.length, cache.starts
        where = torch.full((1,), past) if starts is None else (past - starts[:, None]).clamp_min_(0)
        mask = visible(past, 1, starts, ids.device)
        given = (ids, *cache.columns(1), where) + (() if mask is None else (mask,))
        kind = (len(ids) in FEW, mask is None)
        self.seen[kind] += 1
        if self.seen[kind] > AFTER and kind not in self.traces:
            self._record(kind, given)
        logits: Tensor = self.traces.get(kind, self.step)(*given)
        cache.advance(1)
        return logits

    def _record(self, kind: tuple[bool, bool], given: tuple[Tensor, ...]) -> None:
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will be dropped, and that the sizes of tensors are numbers
            try:
                torch._C._jit_set_profiling_mode(False)  # a recording's first runs would take a fifth of a second more
                self.traces.setdefault(kind, torch.jit.trace(self.step, given, check_trace=False))
            except Exception:  # of a torch that can no longer do it
                self.traces[kind] = self.step
