#!/bin/bash
# torch 2.13.0, 2026-11-29
# One would have sworn: a custom op that draws random numbers, tagged nondeterministic_seeded as the documentation asks for, keeps its
# calls apart under torch.compile, as torch.rand does; or at least it does so in training if it does without gradients.
# What happens: without gradients two calls with equal arguments stay two draws. As soon as an input wants a gradient, the joint graph's
# common subexpressions are merged, and the two are one: two dropouts of a block have the same mask, without a word. torch.rand in its
# place stays apart. An op that takes the tensor it draws for has no equal arguments, and is not merged.
# Seen: with gradients custom op True, torch.rand False, op of its tensor False; without gradients all False: whether two draws are equal.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

v/bin/python -W ignore - <<'END'
import torch
from torch import Tensor

SEEDED = [torch.Tag.nondeterministic_seeded]


@torch.library.custom_op("mine::noise", mutates_args=(), tags=SEEDED)
def noise(count: int) -> Tensor:
    return torch.rand(count)


@noise.register_fake
def _(count: int) -> Tensor:
    return torch.empty(count)


@torch.library.custom_op("mine::noise_for", mutates_args=(), tags=SEEDED)
def noise_for(x: Tensor) -> Tensor:
    return torch.rand(x.numel())


@noise_for.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty(x.numel())


WAYS = {
    "custom op": lambda x: (x * noise(x.numel()), x * noise(x.numel())),
    "torch.rand": lambda x: (x * torch.rand(x.numel()), x * torch.rand(x.numel())),
    "op of its tensor": lambda x: (x * noise_for(x.detach() * 2), x * noise_for(x.detach() * 3)),
}
found = {}
for wanted in (True, False):
    for name, way in WAYS.items():
        torch._dynamo.reset()
        first, second = torch.compile(way, backend="aot_eager")(torch.ones(1000, requires_grad=wanted))
        found[name, wanted] = torch.equal(first, second)
        print("with" if wanted else "without", "gradients,", f"{name}:", found[name, wanted])
assert found.pop(("custom op", True)) is True
assert not any(found.values())
END
