#!/bin/bash
# pyarrow 26.0.1, 2026-11-28
# One would have sworn: columns=["meta.text"] means one thing in one library: the column of that very name if there is one.
# What happens: in a file with a column "meta.text" and a struct "meta" that has a field "text", ParquetFile gives both
# (two columns for one name asked), read_table the flat one only. Without the flat column ParquetFile gives the struct,
# cut down to that field.
# Seen: ParquetFile: ['meta', 'meta.text']; read_table: ['meta.text']; struct alone: [{'text': 'inner'}] without its field n.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q pyarrow==26.0.1

v/bin/python - <<'END'
import pyarrow as pa
import pyarrow.parquet as pq

struct = [{"text": "inner", "n": 1}]
pq.write_table(pa.table({"meta": struct, "meta.text": ["flat"]}), "both.parquet")
pq.write_table(pa.table({"meta": struct}), "struct.parquet")
asked = ["meta.text"]
by_file = pq.ParquetFile("both.parquet").read(columns=asked).column_names
by_table = pq.read_table("both.parquet", columns=asked).column_names
alone = pq.ParquetFile("struct.parquet").read(columns=asked)["meta"].to_pylist()
print("ParquetFile:", by_file)
print("read_table:", by_table)
print("struct alone:", alone)
assert by_file == ["meta", "meta.text"] and by_table == ["meta.text"] and alone == [{"text": "inner"}]
END
