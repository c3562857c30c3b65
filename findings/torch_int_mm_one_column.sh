#!/bin/bash
# torch 2.13.0 (CPU, x86), 2026-11-30
# One would have sworn: torch._int_mm, whose sums are whole numbers, is exact for every matrix that it takes, or refuses it.
# What happens: where the second matrix is a column turned to a row (weight.T of a weight with one column), it answers with wrong
# numbers, without a word. The same row made as a row is multiplied right, and so is weight.T of any other width; .contiguous() changes
# nothing, since torch takes the turned column for contiguous as it is.
# Seen: weight.T of 16 x 1: False, made contiguous: False, copied to a row: True; of 16 x 2, 3, 4, 8: True.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > exact.py <<'END'
import torch

torch.manual_seed(0)
for width in (1, 2, 3, 4, 8):
    x = torch.randint(-127, 128, (3, width), dtype=torch.int8)
    turned = torch.randint(-127, 128, (16, width), dtype=torch.int8).T
    copied = torch.empty(width, 16, dtype=torch.int8).copy_(turned)
    expected = x.int() @ turned.int()
    exact = [torch.equal(torch._int_mm(x, table), expected) for table in (turned, turned.contiguous(), copied)]
    print(f"weight of 16 x {width}: turned, contiguous, copied: {exact}")
    assert exact == [width > 1, width > 1, True]
END
v/bin/python -W ignore exact.py
