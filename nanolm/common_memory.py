"""Memory that the ranks of a run have in common where they are on one machine (Linux): what one writes, all see.

In: a size. Out: a tensor in the same memory for all of them. No file is left of it: it goes with the last process that
has it.
"""

import mmap
import os
import secrets

import torch
import torch.distributed as dist
from torch import Tensor


def common_memory(numbers: int) -> Tensor | None:
    """Zeros in fp32; None where the ranks are on several machines, or the first one's memory can't be had.

    Every rank must call it, and wait for the others between writing and what they read of it.
    """
    rank, world_size, nbytes = dist.get_rank(), dist.get_world_size(), 4 * numbers
    if not hasattr(os, "memfd_create") or world_size != int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
        return None
    name = secrets.token_hex(8)
    descriptor = _made(name, nbytes) if rank == 0 else -1
    said = [f"/proc/{os.getpid()}/fd/{descriptor}", name]  # by the first rank
    dist.broadcast_object_list(said)
    if rank > 0:
        descriptor = _opened(said[0], said[1], nbytes)
    apart = torch.tensor(int(descriptor < 0))
    dist.all_reduce(apart)
    common = None
    if not apart:
        common = torch.frombuffer(mmap.mmap(descriptor, nbytes), dtype=torch.float32)
    if descriptor >= 0:
        os.close(descriptor)
    return common


def _made(name: str, nbytes: int) -> int:
    """A descriptor of new memory; -1 where the system gives none."""
    try:
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, nbytes)
    except OSError:
        return -1
    return descriptor


def _opened(place: str, name: str, nbytes: int) -> int:
    """A descriptor of another process's memory; -1 where none of this name and size is there: containers have their own
    places."""
    try:
        known = name in os.readlink(place) and os.stat(place).st_size == nbytes
        return os.open(place, os.O_RDWR) if known else -1
    except OSError:
        return -1
