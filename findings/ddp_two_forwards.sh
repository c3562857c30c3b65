#!/bin/bash
# torch 2.13.0 (gloo, two ranks, CPU), 2026-11-28
# One would have sworn: DistributedDataParallel averages the gradient of every backward outside no_sync, and a loss that
# never went through the wrapper isn't averaged.
# What happens: each forward of the wrapper arms the NEXT backward, once. Two forwards and then their two backwards: the second
# backward stays local, the ranks' gradients differ from there on, no error. The other way round: a forward whose output is
# thrown away arms the backward of a loss computed on model.module.
# Seen (averaged: 1.5 each): forward, backward, twice: 3.0 on both ranks; two forwards, then two backwards: 2.5 on rank 0,
# 3.5 on rank 1; model.module alone: 1.0 on rank 0; the same after an unused forward of the wrapper: 1.5.
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


def grad(model, name):
    print(f"rank {rank}, {name}: {model.module.weight.grad.item()}", flush=True)
    return model.module.weight.grad.item()


usual = fresh()
for _ in range(2):
    usual(x).sum().backward()
crossed = fresh()
losses = [crossed(x).sum() for _ in range(2)]
for loss in losses:
    loss.backward()
alone = fresh()
alone.module(x).sum().backward()
armed = fresh()
armed(x)
armed.module(x).sum().backward()
seen = (
    grad(usual, "forward, backward, twice"),
    grad(crossed, "two forwards, then two backwards"),
    grad(alone, "model.module alone"),
    grad(armed, "model.module after an unused forward"),
)
dist.destroy_process_group()
assert seen == (3.0, 2.5 + rank, 1.0 + rank, 1.5), seen
END
v/bin/python rank.py 1 2> /dev/null &
v/bin/python rank.py 0
wait $!
