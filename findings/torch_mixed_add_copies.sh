#!/bin/bash
# torch 2.13.0 (CPU), 2026-11-30
# One would have sworn: total.add_(part) with total in fp32 and part in bf16 of the same shape converts entry by entry on its way, as
# copy_ does: in-place addition takes no memory.
# What happens: on a CPU all of part is first copied as fp32, by addcmul_ too. Adding a low-precision gradient of n entries to a wide sum
# so takes 4 n bytes more for a moment. copy_ converts on its way and takes nothing, nor does adding some rows at a time.
# Seen: 64 Mi entries: add_ and addcmul_ of bf16 to fp32 + 256 MiB at the peak; add_ of fp32, copy_ of bf16 and add_ of bf16 in pieces of
# 1 Mi + 0.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > look.py <<'END'
import re
from pathlib import Path

import torch

N = 2**26
total, low, wide = torch.ones(N), torch.ones(N, dtype=torch.bfloat16), torch.ones(N)


def peak(way):
    """MiB that `way` takes at most beside what is there before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    sizes = lambda: {k: int(v) / 1024 for k, v in re.findall(r"(VmHWM|VmRSS):\s+(\d+)", Path("/proc/self/status").read_text())}
    before = sizes()["VmRSS"]
    way()
    return round(sizes()["VmHWM"] - before)


def in_pieces():
    for some, part in zip(total.split(2**20), low.split(2**20)):
        some.add_(part)


ways = {
    "add_ of bf16": lambda: total.add_(low),
    "add_ of fp32": lambda: total.add_(wide),
    "copy_ of bf16": lambda: total.copy_(low),
    "addcmul_ with bf16": lambda: total.addcmul_(wide, low),
    "add_ of bf16 in pieces": in_pieces,
}
for way in ways.values():  # threads and their stacks
    way()
found = {name: peak(way) for name, way in ways.items()}
for name, size in found.items():
    print(f"{name}: + {size} MiB")
assert found["add_ of bf16"] >= 250 and found["addcmul_ with bf16"] >= 250
assert max(found["add_ of fp32"], found["copy_ of bf16"], found["add_ of bf16 in pieces"]) < 20
END
v/bin/python look.py
