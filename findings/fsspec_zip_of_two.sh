#!/bin/bash
# fsspec 2026.9.0, with pandas 3.1.1 for comparison, 2026-11-28
# One would have sworn: opening a zip of two files as if it were one compressed file is refused (pandas does).
# What happens: fsspec.open(..., compression="zip", or "infer") gives the first file and drops the others without a word.
# Seen: fsspec: 1 line; pandas: ValueError.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q fsspec==2026.9.0 pandas==3.1.1

v/bin/python - <<'END'
import zipfile

import fsspec
import pandas

with zipfile.ZipFile("a.zip", "w") as archive:
    archive.writestr("one.csv", "first\n")
    archive.writestr("two.csv", "second\n")
with fsspec.open("a.zip", compression="infer") as f:
    seen = f.read()
print("fsspec:", seen)
try:
    pandas.read_csv("a.zip")
    refused = None
except ValueError as e:
    refused = type(e).__name__
print("pandas:", refused)
assert seen == b"first\n" and refused == "ValueError"
END
