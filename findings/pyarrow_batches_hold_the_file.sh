#!/bin/bash
# pyarrow 26.0.1, 2026-11-28
# One would have sworn: ParquetFile.iter_batches streams: its memory depends on the batch and on a row group, not on the file.
# What happens: with pre_buffer, which is on unless told otherwise, Arrow holds the bytes of all row groups while the iterator
# lives: the peak is above the size of the file and grows with it. pre_buffer=False is flat. (The documentation says that pre_buffer
# costs memory, not that it costs the file.)
# Seen (random text, row groups of 50,000 rows, batches of 1,000):
#   350,000 rows, 17 MB: peak 21 MB, with pre_buffer=False 8 MB; 700,000 rows, 34 MB: peak 38 MB, with pre_buffer=False 8 MB.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q pyarrow==26.0.1

cat > peak.py <<'END'
"""peak.py FILE PRE_BUFFER: prints the most bytes that Arrow held at once while the batches went by."""
import sys

import pyarrow as pa
import pyarrow.parquet as pq

options = {} if sys.argv[2] == "default" else {"pre_buffer": False}
for batch in pq.ParquetFile(sys.argv[1], **options).iter_batches(batch_size=1000):
    del batch
print(pa.default_memory_pool().max_memory())
END
v/bin/python - <<'END'
import os
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def peak(path, pre_buffer):
    return int(subprocess.check_output([sys.executable, "peak.py", path, pre_buffer]))


numbers = random.Random(0)
peaks = {}
for groups in (7, 14):
    path = f"{groups}.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        for _ in range(groups):
            rows = ["%032x" % numbers.getrandbits(128) * 10 for _ in range(50_000)]
            writer.write_table(pa.table({"text": rows}))
    size = os.path.getsize(path)
    peaks[groups] = peak(path, "default"), peak(path, "off"), size
    held, flat = (p / 2**20 for p in peaks[groups][:2])
    print(f"{groups * 50_000:,} rows, {size / 2**20:.0f} MB: peak {held:.0f} MB, with pre_buffer=False {flat:.0f} MB")
assert all(held >= size for held, _, size in peaks.values())
assert peaks[14][0] > 1.5 * peaks[7][0] and peaks[14][1] < 1.5 * peaks[7][1] < peaks[7][2]
END
