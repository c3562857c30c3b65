#!/bin/bash
# torch 2.13.0 (gloo, CPU), 2026-11-30
# One would have sworn: where another rank doesn't answer in time, a collective raises torch.distributed's own error (DistBackendError,
# "raised when a backend error occurs"), and every collective that was waiting says the same.
# What happens: gloo raises a plain RuntimeError, no DistError. Of several collectives on their way (DistributedDataParallel always has
# some) only one tells of a timeout and names gloo, in the path of a source file; the others say "Application timeout caused pair
# closure", without the word gloo, a rank or a time. Which of them a program waits for first is chance, so a guard that looks for
# DistError, or for "gloo" in the message, works most of the time.
# Seen (two ranks, a timeout of 4 s, three sums under way): the first "Timed out waiting 4000ms for recv operation to complete", the
# other two "Application timeout caused pair closure"; all three RuntimeError.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > rank.py <<'END'
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

rank = int(sys.argv[1])
how = {"store": dist.FileStore("store", 2), "rank": rank, "world_size": 2}
dist.init_process_group("gloo", timeout=timedelta(seconds=4), **how)
dist.all_reduce(torch.ones(4))  # both are there
if rank == 1:
    time.sleep(20)
    os._exit(0)
said = []
for work in [dist.all_reduce(torch.ones(1 << 20), async_op=True) for _ in range(3)]:
    try:
        work.wait()
    except Exception as error:
        print(type(error).__name__, "-", str(error))
        assert type(error) is RuntimeError and not isinstance(error, dist.DistError)
        said.append(str(error))
assert sum("gloo" in line and "Timed out" in line for line in said) == 1
assert said.count("Application timeout caused pair closure") == 2
os._exit(0)
END
v/bin/python rank.py 1 2> /dev/null &
v/bin/python rank.py 0
