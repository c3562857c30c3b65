"""Memory that the ranks of a run have in common where they are on one machine (Linux): what one writes, all see.

In: a shape. Out: a tensor in the same memory for all of them. No file is left of it: it goes with the last process that
has it.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def common_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """Zeros of `shape`; None where the ranks are on several machines, or one can't open the first one's memory.

    Every rank must call it, and wait for the others between writing and what they read of it.
    """
    import torch
    import torch.distributed as dist

    rank, world_size = dist.get_rank(), dist.get_world_size()
    if not hasattr(os, "memfd_create") or world_size != int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
        return None
    size, descriptor, name = math.prod(shape), -1, secrets.token_hex(8)
    if rank == 0:
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, size * dtype.itemsize)
    where = [f"/proc/{os.getpid()}/fd/{descriptor}", name]
    dist.broadcast_object_list(where)
    if rank > 0:
        descriptor = _opened(*where)
    apart = torch.tensor(int(descriptor < 0))
    dist.all_reduce(apart)
    common = None
    if not apart:
        common = torch.frombuffer(mmap.mmap(descriptor, size * dtype.itemsize), dtype=dtype).view(shape)
    if descriptor >= 0:
        os.close(descriptor)
    return common


def _opened(place: str, name: str) -> int:
    """A descriptor of another process's memory of this name; -1 where it isn't there, as in a container of its own."""
    try:
        return os.open(place, os.O_RDWR) if name in os.readlink(place) else -1
    except OSError:
        return -1
