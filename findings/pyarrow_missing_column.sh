#!/bin/bash
# pyarrow 26.0.1, 2026-11-28
# One would have sworn: asking a Parquet file for a column that it doesn't have is an error, as in read_table and dataset.
# What happens: ParquetFile leaves the unknown name out without a word. iter_batches gives batches of no column at all
# that still count their rows; read and read_row_group do the same. A misspelt name looks like a file without text.
# Seen: read_table: ArrowInvalid; iter_batches: columns [], 2 rows; read: ['text'] of ['text', 'txet'].
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q pyarrow==26.0.1

v/bin/python - <<'END'
import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"text": ["a", "b"], "n": [1, 2]}), "a.parquet")
try:
    pq.read_table("a.parquet", columns=["txet"])
    raised = None
except pa.ArrowInvalid as e:
    raised = type(e).__name__
print("read_table:", raised)
batch = next(pq.ParquetFile("a.parquet").iter_batches(columns=["txet"]))
print(f"iter_batches: columns {batch.schema.names}, {batch.num_rows} rows")
read = pq.ParquetFile("a.parquet").read(columns=["text", "txet"])
print("read:", read.column_names, "of", ["text", "txet"])
assert raised == "ArrowInvalid" and batch.schema.names == [] and batch.num_rows == 2 and read.column_names == ["text"]
END
