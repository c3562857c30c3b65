#!/bin/bash
# torch 2.13.0 (CPU, x86 with AVX2 or AVX-512), 2026-11-30
# One would have sworn: torch._weight_int8pack_mm, the product with int8 weights that takes bf16, fp16 and fp32 activations, takes about as
# long for each of them; fp32 has no conversion to make, so it should be the fastest.
# What happens: only bf16 has a vector kernel. The same product takes many times longer in fp32 and in fp16, longer than a plain fp32 product
# with fp32 weights of four times the size.
# Seen, one row, 2,816 x 512 weights, one thread, us (a CPU with AVX-512): bf16 90, fp32 1,020, fp16 2,449; F.linear in fp32 219.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "needs x86 with AVX2"; exit 0; }
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > product.py <<'END'
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
x, scale = torch.randn(1, 512), torch.rand(2816)
weight = torch.randint(-127, 128, (2816, 512), dtype=torch.int8)
exact = x.double() @ (weight.double() * scale.double()[:, None]).T


def least(call):
    """Microseconds of the fastest of 300."""
    times = []
    for _ in range(300):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times) * 1e6


with torch.inference_mode():
    found = {}
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        given = x.to(dtype), weight, scale.to(dtype)
        assert (torch._weight_int8pack_mm(*given).double() - exact).norm() < 0.02 * exact.norm()
        found[dtype] = least(lambda: torch._weight_int8pack_mm(*given))
    whole = weight.float() * scale[:, None]
    found["F.linear, fp32"] = least(lambda: torch.nn.functional.linear(x, whole))
print(", ".join(f"{name}: {us:.0f} us" for name, us in found.items()))
fast, plain = found[torch.bfloat16], found["F.linear, fp32"]
assert min(found[torch.float32], found[torch.float16]) > max(3 * fast, plain)
END
v/bin/python product.py
