#!/bin/bash
# torch 2.13.0 (CPU, x86 with AVX2 or AVX-512), 2026-11-30
# One would have sworn: a TorchScript function of one line takes a millisecond or two at its first call, whatever that line is, since there is nothing in it
# to optimize.
# What happens: where the line is a product with packed weights (quantized.linear_dynamic), the first call takes tens of milliseconds, longer than
# hundreds of such products; a sum of two tensors takes 2. It is the preparation for optimizing: inside torch.jit.optimized_execution(False) the first call takes less
# than one. The operator called from Python takes less than one, too.
# Seen, ms of the first call, each in a process of its own: a sum 2.0, the product 38.6, the product not optimized 0.7, called from Python 0.8 (the best of five).
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "needs x86 with AVX2"; exit 0; }
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > first.py <<'END'
# first.py sum|product|plainly|python: milliseconds of a first call
import sys
import time
import warnings

import torch

warnings.simplefilter("ignore")  # that quantized tensors and TorchScript will go
way = sys.argv[1]
scale, zeros = torch.full((512,), 0.05, dtype=torch.float64), torch.zeros(512, dtype=torch.long)
weight = torch.quantize_per_channel(torch.randn(512, 512), scale, zeros, 0, torch.qint8)
packed, x = torch.ops.quantized.linear_prepack(weight, None), torch.randn(1, 512)
unit = torch.jit.CompilationUnit("""
def product(x: Tensor, weight: __torch__.torch.classes.quantized.LinearPackedParamsBase) -> Tensor:
    return torch.ops.quantized.linear_dynamic(x, weight, False)
def sum(x: Tensor) -> Tensor:
    return x + x
""")
product, total = unit.product, unit.sum
with torch.inference_mode(), torch.jit.optimized_execution(way != "plainly"):
    begun = time.perf_counter()
    if way == "sum":
        total(x)
    elif way == "python":
        torch.ops.quantized.linear_dynamic(x, packed, False)
    else:
        product(x, packed)
    print(f"{1000 * (time.perf_counter() - begun):.2f}")
END
best() { for _ in 1 2 3 4 5; do v/bin/python first.py "$1"; done | sort -n | head -1; }
sum=$(best sum)
product=$(best product)
plainly=$(best plainly)
python=$(best python)
echo "a sum $sum ms, the product $product, the product not optimized $plainly, called from Python $python"
awk "BEGIN {exit !($product > 5 * $sum && $product > 10 * $plainly && $product > 10 * $python)}"
