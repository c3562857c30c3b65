#!/bin/bash
# nnsight 0.8.1, torch 2.13.0, onnx-ir and onnxscript as pinned below, 2026-11-29
# One would have sworn: to import a package that looks into models changes nothing for the exporter of another one.
# What happens: importing nnsight writes a method `save` into Python's `object`, so that each value of a trace has it. A module whose
# functions load on first use then has a `save` too: onnx_ir's own is no longer found, and torch's ONNX exporter can't write its file.
# nnsight._c.unmount("save") takes it away again; nnsight.save(x) does the same as x.save().
# Seen: alone: exported; after the import: TypeError; unmounted: exported.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6 nnsight==0.8.1 onnxscript==0.7.2 onnx-ir==1.1.0

cat > export.py <<'END'
import sys
import warnings

warnings.simplefilter("ignore")
import torch

if "nnsight" in sys.argv:
    import nnsight
if "unmount" in sys.argv:
    from nnsight._c import unmount

    unmount("save")
try:
    program = torch.onnx.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),), dynamo=True, verbose=False)
    program.save("model.onnx")
    print("exported")
except TypeError as error:
    print(type(error).__name__)
END
run() { v/bin/python export.py "$@" 2>/dev/null | tail -1; }
alone=$(run)
beside=$(run nnsight)
unmounted=$(run nnsight unmount)
echo "alone: $alone"
echo "after the import: $beside"
echo "unmounted: $unmounted"
[ "$alone" = exported ] && [ "$beside" = TypeError ] && [ "$unmounted" = exported ]
