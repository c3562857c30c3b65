#!/bin/bash
# torch 2.13.0, 2026-11-29
# One would have sworn: `found = list[Tensor]()` and `found: list[Tensor] = []` are the same to torch.compile, as to Python; builtin
# containers are traced through.
# What happens: the call of the parametrised type is one that the tracer doesn't know. With fullgraph=True it is an error; without, the
# graph is cut there, without a word, and a function between whose halves sizes travel as numbers is compiled anew for other sizes,
# dynamic=True or not. dict[str, Tensor]() is the same.
# Seen: plain 1 graph and 0 breaks, list[Tensor]() and dict[str, Tensor]() 2 graphs and 1 break.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

v/bin/python -W ignore - <<'END'
import torch
from torch import Tensor


def plain(x: Tensor) -> Tensor:
    x = x + 1
    found: list[Tensor] = []
    found.append(x * 2)
    return found[0]


def typed_list(x: Tensor) -> Tensor:
    x = x + 1
    found = list[Tensor]()
    found.append(x * 2)
    return found[0]


def typed_dict(x: Tensor) -> Tensor:
    x = x + 1
    found = dict[str, Tensor]()
    found["x"] = x * 2
    return found["x"]


seen = {}
for function in (plain, typed_list, typed_dict):
    told = torch._dynamo.explain(function)(torch.ones(3))
    seen[function.__name__] = (told.graph_count, told.graph_break_count)
    print(function.__name__, *seen[function.__name__])
assert seen == {"plain": (1, 0), "typed_list": (2, 1), "typed_dict": (2, 1)}
END
