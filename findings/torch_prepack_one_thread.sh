#!/bin/bash
# torch 2.13.0 (CPU, x86 with AVX2 or AVX-512), 2026-11-30
# One would have sworn: torch.ops.quantized.linear_prepack and linear_prepack_fp16, which lay out weights for fbgemm's products, use the threads that torch has,
# as the products and conversions around them do, and take a moment: they only move bytes.
# What happens: both run in one thread whatever torch.set_num_threads says, at 4 to 20 ns a weight: for 27 million parameters a tenth of a second
# for int8 and half of one for fp16 before the first product. They let go of Python's lock, so a ThreadPoolExecutor over the matrices helps.
# Seen, 16 matrices of 1,024 x 1,024, two cores (CPU time over wall time; then with two threads of Python): int8 1.00, 3.9 ns a weight, 2.3; fp16 1.00, 19.1 ns, 9.6;
# a product of two such matrices has 1.99.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "needs x86 with AVX2"; exit 0; }
[ "$(nproc)" -ge 2 ] || { echo "needs two cores"; exit 0; }
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > prepack.py <<'END'
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import torch

warnings.simplefilter("ignore")  # that quantized tensors will go
torch.set_num_threads(2)
torch.manual_seed(0)
plain = [torch.randn(1024, 1024) for _ in range(16)]
scale, zeros = torch.full((1024,), 0.05, dtype=torch.float64), torch.zeros(1024, dtype=torch.long)
whole = [torch.quantize_per_channel(one, scale, zeros, 0, torch.qint8) for one in plain]
ways = {
    "int8": (lambda one: torch.ops.quantized.linear_prepack(one, None), whole),
    "fp16": (lambda one: torch.ops.quantized.linear_prepack_fp16(one, None), plain),
    "product": (lambda one: one @ one, plain),
}


def best(call):
    """(wall seconds, CPU seconds of the whole process) of the fastest of seven."""
    found = []
    for _ in range(7):
        begun, busy = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - begun, time.process_time() - busy))
    return min(found)


shares = {}
with ThreadPoolExecutor(2) as pool:
    for name, (pack, matrices) in ways.items():
        wall, busy = best(lambda: [pack(one) for one in matrices])
        shares[name] = busy / wall
        both, _ = best(lambda: list(pool.map(pack, matrices)))
        each = [1e9 * seconds / (16 * 1024 * 1024) for seconds in (wall, both)]
        print(f"{name}: CPU time over wall time {shares[name]:.2f}; {each[0]:.1f} ns a weight, in two threads {each[1]:.1f}")
        if name != "product":
            assert both < 0.8 * wall
assert shares["int8"] < 1.2 and shares["fp16"] < 1.2 and shares["product"] > 1.5, shares
END
v/bin/python prepack.py
