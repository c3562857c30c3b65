#!/bin/bash
# torch 2.13.0 (gloo, two ranks, CPU), 2026-11-28
# One would have sworn: static_graph=True only tells DistributedDataParallel that the graph doesn't change; accumulating gradients
# with no_sync works as before.
# What happens: if the first step begins inside no_sync, as gradient accumulation does, the first backward outside it ends in an
# internal assertion of torch. When the very first backward is a synchronised one, no_sync works afterwards.
# Seen: static_graph=False: 3.0; static_graph=True: RuntimeError, INTERNAL ASSERT FAILED; after a synchronised step: 3.0.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > rank.py <<'END'
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{os.getcwd()}/meet", rank=rank, world_size=2)


def fresh(**options):
    """One weight; its gradient is 1 on rank 0 and 2 on rank 1, 1.5 when averaged."""
    return DistributedDataParallel(torch.nn.Linear(1, 1, bias=False), **options)


x = torch.tensor([[rank + 1.0]])


def accumulate(model):
    """The averaged gradient of two steps, the first of them in no_sync."""
    model.zero_grad()
    with model.no_sync():
        model(x).sum().backward()
    model(x).sum().backward()
    return model.module.weight.grad.item()


usual = accumulate(fresh())
warm = fresh(static_graph=True)
warm(x).sum().backward()
warmed = accumulate(warm)
try:
    cold = accumulate(fresh(static_graph=True))
except RuntimeError as e:
    cold = "INTERNAL ASSERT FAILED" if "INTERNAL ASSERT FAILED" in str(e) else str(e)
print(f"rank {rank}: static_graph=False: {usual}; static_graph=True: {cold}; after a synchronised step: {warmed}", flush=True)
assert (usual, cold, warmed) == (3.0, "INTERNAL ASSERT FAILED", 3.0)
END
v/bin/python rank.py 1 2> /dev/null &
v/bin/python rank.py 0
wait $!
