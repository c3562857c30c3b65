#!/bin/bash
# zstandard 0.25.0, 2026-11-28
# One would have sworn: a reader of a compressed file that was cut says so at its end, as gzip, bz2 and lzma do (EOFError).
# What happens: stream_reader ends like a whole file. It gives what came before the cut, with and without
# read_across_frames, also when half of the only frame is missing; zstandard.open passes it on. Only decompress() objects.
# Seen: of 300000 bytes, 3 bytes cut: 299997; half cut: 149994; last of two frames cut: 300003 of 300006;
# zstandard.open: 299997; none with an error. decompress(): ZstdError; gzip: EOFError.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q zstandard==0.25.0

v/bin/python - <<'END'
import gzip
import io
import random

import zstandard

text = random.Random(0).randbytes(300_000)  # random bytes don't shrink, so a cut costs as many
frame = zstandard.ZstdCompressor().compress(text)
two = frame + zstandard.ZstdCompressor().compress(b"second")


def read(data):
    """Bytes that stream_reader gives."""
    return len(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read())


def error(function, data):
    try:
        function(data)
    except (zstandard.ZstdError, EOFError) as e:
        return type(e).__name__
    return "no error"


with open("cut.zst", "wb") as f:
    f.write(frame[:-3])
with zstandard.open("cut.zst", "rb") as f:
    opened = len(f.read())
whole, end, half, last = read(frame), read(frame[:-3]), read(frame[: len(frame) // 2]), read(two[:-3])
print("whole:", whole)
print("3 bytes cut:", end, "bytes, no error")
print("half cut:", half, "bytes, no error")
print("last of two frames cut:", last, "bytes of", f"{read(two)}, no error")
print("zstandard.open, 3 bytes cut:", opened, "bytes, no error")
decompressed = error(zstandard.ZstdDecompressor().decompress, frame[:-3])
gzipped = error(gzip.decompress, gzip.compress(text)[:-3])
print("decompress():", decompressed, " gzip:", gzipped)
assert whole == 300_000 <= last < read(two) and end == opened < whole and 0 < half < whole
assert read(two) == 300_006 and decompressed == "ZstdError" and gzipped == "EOFError"
END
