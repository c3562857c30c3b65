#!/bin/bash
# torch 2.13.0 (x86), 2026-11-30
# One would have sworn: what it costs to call an operator from Python doesn't depend on which way it is reached, and torch.ops, which
# skips the interpreter of TorchScript, is the shorter one; `_op` of an overload shorter still.
# What happens: an operator whose weights are a packed object (quantized::linear_dynamic, linear_dynamic_fp16) takes 8 to 12 us longer
# through torch.ops than through a one-line TorchScript function that calls it, which for matrices of 64 x 64 is two thirds of the
# whole call. Operators that take tensors alone know no such difference (mul: torch.ops is the faster one).
# Seen (2 cores of an Intel Xeon, one thread, 64 x 64): int8 15.1 us by `_op`, 5.5 in a function; fp16 15.3 and 7.3; mul 4.0 and 6.7.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > calls.py <<'END'
import time

import torch

torch.set_num_threads(1)
PACKED = "__torch__.torch.classes.quantized.LinearPackedParamsBase"
functions = torch.jit.CompilationUnit(f"""
def int8(x: Tensor, weight: {PACKED}) -> Tensor:
    return torch.ops.quantized.linear_dynamic(x, weight, False)
def fp16(x: Tensor, weight: {PACKED}) -> Tensor:
    return torch.ops.quantized.linear_dynamic_fp16(x, weight)
def mul(x: Tensor, weight: Tensor) -> Tensor:
    return torch.mul(x, weight)
""")


def fastest(call, x, weight):
    times = []
    for _ in range(40):
        begun = time.perf_counter()
        for _ in range(500):
            call(x, weight)
        times.append((time.perf_counter() - begun) / 500 * 1e6)
    return min(times)


weight, x = torch.randn(64, 64), torch.randn(1, 64)
rounded = torch.quantize_per_channel(weight, torch.full((64,), 0.05), torch.zeros(64, dtype=torch.long), 0, torch.qint8)
int8, fp16 = torch.ops.quantized.linear_prepack(rounded, None), torch.ops.quantized.linear_prepack_fp16(weight, None)
dynamic, half = torch.ops.quantized.linear_dynamic.default._op, torch.ops.quantized.linear_dynamic_fp16.default._op
with torch.inference_mode():
    assert torch.equal(dynamic(x, int8, False), functions.int8(x, int8))
    for name, direct, of_what in (
        ("int8", lambda x, packed: dynamic(x, packed, False), int8),
        ("fp16", half, fp16),
        ("mul", torch.ops.aten.mul.Tensor._op, weight),
    ):
        python, inside = fastest(direct, x, of_what), fastest(getattr(functions, name), x, of_what)
        print(f"{name}: {python:.1f} us from Python, {inside:.1f} us in a TorchScript function")
        assert (python > 1.5 * inside) == (name != "mul"), name
END
v/bin/python -W ignore calls.py
