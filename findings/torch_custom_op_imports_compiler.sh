#!/bin/bash
# torch 2.13.0, 2026-11-30
# One would have sworn: an operator made by torch.library.custom_op, which is there to be opaque to torch.compile, costs nothing of the
# compiler in a program that never compiles; if anything, defining and registering it would, not calling it.
# What happens: defining it imports nothing, and its first plain call imports torch._dynamo, with sympy and hundreds of other modules:
# most of a second, more than half as long as torch itself takes. torch.library.Library, which makes the same operator by hand, doesn't.
# Seen: custom_op: after its definition False, after its first call True, some 800 modules more; Library: False and False.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > ops.py <<'END'
import sys
import time

import torch
from torch import Tensor


def double(x: Tensor) -> Tensor:
    return x * 2


if sys.argv[1] == "custom_op":
    operator = torch.library.custom_op("mine::double", double, mutates_args=())
else:
    library = torch.library.Library("mine", "DEF")
    library.define("double(Tensor x) -> Tensor")
    library.impl("double", double, "CPU")
    operator = torch.ops.mine.double
defined, modules, begun = "torch._dynamo" in sys.modules, len(sys.modules), time.perf_counter()
assert operator(torch.ones(1)).item() == 2
passed, called, more = time.perf_counter() - begun, "torch._dynamo" in sys.modules, len(sys.modules) - modules
print(f"{sys.argv[1]}: defined {defined}, called {called}, {more} modules more in {passed:.2f} s")
assert (defined, called, more > 300) == (False, sys.argv[1] == "custom_op", sys.argv[1] == "custom_op")
END
v/bin/python -W ignore ops.py custom_op
v/bin/python -W ignore ops.py Library
