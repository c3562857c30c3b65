#!/bin/bash
# torch 2.13.0, 2026-11-29
# One would have sworn: a parameter assigned to copy.copy(module) is the copy's alone, as any attribute of a shallow copy is.
# What happens: the copy has the original's own tables of parameters, buffers and submodules, so the original gets it too; plain
# attributes, and so the shapes that forward may go by, stay apart. Of a scripted module the parameter stays apart, of a traced one
# (which is a script module too) it doesn't.
# Seen: eager True, traced True, scripted False: whether the original has the parameter that its copy was given.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

v/bin/python -W ignore - <<'END'
import copy

import torch
from torch import nn

one = torch.ones(1, 2)
eager = nn.Linear(2, 2, bias=False)
kinds = {"eager": eager, "traced": torch.jit.trace(eager, (one,)), "scripted": torch.jit.script(eager)}
found = {}
for name, module in kinds.items():
    before, twin = module(one), copy.copy(module)
    twin.weight = nn.Parameter(twin.weight + 1)
    found[name] = not torch.equal(module(one), before)
    assert not torch.equal(twin(one), before)
    print(name, found[name])
twin = copy.copy(eager)
twin.in_features = 5
assert eager.in_features == 2
assert found == {"eager": True, "traced": True, "scripted": False}
END
