#!/bin/bash
# fsspec 2026.9.0 and pandas 3.1.1 (both through Python's lzma), 2026-11-28
# One would have sworn: a valid .xz file is read to its end. The format allows zeros (a multiple of four) between two streams,
# and xz itself reads over them; lzma.open does read streams that follow each other directly.
# What happens: after padding, lzma takes the rest for foreign bytes and ends without an error: whatever was appended is gone.
# Seen: streams side by side: 2 lines; with 4 zero bytes between: 1 line, in lzma.open, fsspec.open and pandas.read_csv alike.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q fsspec==2026.9.0 pandas==3.1.1

v/bin/python - <<'END'
import lzma
import shutil
import subprocess

import fsspec
import pandas

first, second = lzma.compress(b"first\n"), lzma.compress(b"second\n")


def lines(data):
    """Lines that lzma, fsspec and pandas find in the file."""
    with open("a.csv.xz", "wb") as f:
        f.write(data)
    with lzma.open("a.csv.xz") as by_lzma, fsspec.open("a.csv.xz", compression="xz") as by_fsspec:
        return [len(by_lzma.readlines()), len(by_fsspec.readlines()), len(pandas.read_csv("a.csv.xz", header=None))]


beside, padded = lines(first + second), lines(first + bytes(4) + second)
print("side by side:", beside)
print("4 zero bytes between:", padded)
if shutil.which("xz"):
    print("xz:", subprocess.check_output(["xz", "-dc", "a.csv.xz"]))
assert beside == [2, 2, 2] and padded == [1, 1, 1]
END
