"""Tables of every form: the delimiter, the column and the row are found, or the line that is wrong is named."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import feather, ipc, parquet
from text_files import complaint, documents, put, table

from nanolm.data.files import Files


@pytest.mark.parametrize(
    "text",
    [
        "id,text\n1,one; two\n",
        "id;text\n1;one; two\n".replace("; ", ", "),
        "sep=;\nid;text\n1;one, two\n",
        "id\ttext\n1\tone, two\n",
        "id|text\n1|one, two\n",
        "text\none two\n",
        "id,text,\n1,one two,\n",
        "id,text\n1,one two,,\n",
        "\ufeffid,text\n1,one two\n",
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, text: str) -> None:
    [found] = documents(put(tmp_path / "a.csv", text))
    assert found.replace(";", "").replace(",", "") == "one two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\n1,a\n2,b\n", "line 2 has 2 cells, the header 1, and no row is like the header; mend the header"),
        ("sep=;\nid;text\n1;a;b\n", "line 3 has 3 cells, the header 2"),
        ("id,text,text\n1,a,b\n", "2 columns are called 'text'; rename all but one"),
        ("id;plot\n1;a\n", "no column 'text'; data.column must be one of 'id', 'plot'"),
        ('id,text\n1,"a\n', "line 2: not a csv row"),
        ("\n", "no column 'text'; data.column must be one of (it has none)"),
    ],
)
def test_a_table_that_is_wrong_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in complaint(put(tmp_path / "a.csv", text))


def test_a_column_inside_objects(tmp_path: Path) -> None:
    rows = [{"meta": {"text": "in"}, "id": 1}, {"meta": None}, {"meta.text": "flat", "meta": {"text": "no"}}]
    path = put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert documents(path, column="meta.text") == ["in", "flat"]
    assert "line 1: 'meta' is dict, not text; choose another data.column; inside it are 'text'" in complaint(
        path, column="meta"
    )
    assert "line 1: no column 'name'; data.column must be one of 'text'" in complaint(path, column="meta.name")
    assert "line 1: 'id' has nothing inside" in complaint(path, column="id.text")
    structs = {"meta": [{"text": "in"}, None]}
    assert documents(put(tmp_path / "a.parquet", table(structs)), column="meta.text") == ["in"]
    flat = put(tmp_path / "b.parquet", table(structs | {"meta.text": ["flat", "too"]}))
    assert documents(flat, column="meta.text") == ["flat", "too"]
    assert "no column 'name'" in complaint(tmp_path / "a.parquet", column="meta.name")


@pytest.mark.parametrize(
    "text",
    [
        '[{"text": "one"}, {"text": "two"}]',
        ' [\n {"text": "one"} ,\n {"text":\n "two"}\n]\n',
        '["one", "two"]',
        '{"text": "one"}\n{"text": "two"}\n',
        '{\n "text": "one"\n}\n{"text": "two"}',
        '\ufeff[{"text": "one"},{"text": "two"}]',
    ],
)
def test_json_of_any_layout(tmp_path: Path, text: str) -> None:
    assert documents(put(tmp_path / "a.json", text)) == ["one", "two"]


def test_json_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    texts = [str(n) * 50_000 for n in range(9)] + ["x"] * 9000
    rows = [{"text": text, "id": 1.5} for text in texts]
    for indent in (None, 1):
        assert documents(put(tmp_path / "a.json", json.dumps(rows, indent=indent))) == texts
    assert documents(put(tmp_path / "a.ndjson", "\n".join(map(json.dumps, rows)))) == texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "one"}, {"text": "two"}', "ends or breaks off after row 2, without a ]"),
        ('[{"text": "one"} {"text": "two"}]', "ends or breaks off after row 1, without a ]"),
        ('[{"text": "one"}, {"text": "tw', "row 2: not JSON"),
        ('[{"text": "one"}, {"text": x' + " " * 200_000, "row 2: not JSON"),
        ("[1]", "row 1: int instead of a JSON object"),
        ('{"data": []}', "row 1: no column 'text'; data.column must be one of 'data'"),
        ("[" * 100_000, "row 1: not JSON"),
    ],
)
def test_json_that_is_wrong_names_the_row(tmp_path: Path, text: str, message: str) -> None:
    assert message in complaint(put(tmp_path / "a.json", text))


def test_a_mark_inside_jsonl_is_no_text(tmp_path: Path) -> None:
    one = '\ufeff{"text": "one"}\n'
    assert documents(put(tmp_path / "a.jsonl", one + one.replace("one", "two"))) == ["one", "two"]


KINDS = [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()]


@pytest.mark.parametrize("kind", [*KINDS, "dictionary"], ids=str)
@pytest.mark.parametrize("form", ["parquet", "arrow file", "arrow stream"])
def test_tables_by_columns(tmp_path: Path, kind: Any, form: str) -> None:
    texts = [*map(str, range(1000)), None, "é"]
    column = pyarrow.array(texts).dictionary_encode() if kind == "dictionary" else pyarrow.array(texts).cast(kind)
    made = pyarrow.table({"id": range(1002), "text": column})
    path = tmp_path / "a"  # no ending: told by content
    if form == "parquet":
        parquet.write_table(made, path)
    elif form == "arrow file":
        feather.write_feather(made, path)
    else:
        with ipc.new_stream(path, made.schema) as stream:
            stream.write_table(made, max_chunksize=100)
    expected = [text for text in texts if text]
    assert documents(path) == expected
    data = path.read_bytes()
    assert documents(put(tmp_path / "b.gz", gzip.compress(data))) == expected
    for size in (len(data) - 8, len(data) // 2, 10):  # an Arrow stream without its last 8 bytes looks whole to pyarrow
        cut = put(tmp_path / "cut", data[:size])
        assert "can't be read after row" in complaint(cut, format=form.split()[0])
    assert "no column 'plot'; data.column must be one of 'id', 'text'" in complaint(path, column="plot")
    assert "row 1: 'id' is int, not text" in complaint(path, column="id")


def test_a_folder_that_datasets_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"text": [f"text {n}" for n in range(30)], "meta": [{"title": "t"}] * 30})
    made.save_to_disk(tmp_path / "one", num_shards=12)
    assert documents(tmp_path / "one") == made["text"][:]
    assert documents(tmp_path / "one", column="meta.title") == ["t"] * 30
    datasets.DatasetDict(train=made, validation=made.select([3])).save_to_disk(tmp_path / "both")
    said = complaint(tmp_path / "both")
    assert "holds the splits train, validation; give data.train_path=" in said
    config = Files(train_path=str(tmp_path / "both/train"), val_path=str(tmp_path / "both/validation"))
    assert {split: len(list(texts)) for split, texts in config.official_splits(Counter()).items()} == {
        "train": 30,
        "val": 1,
    }


def test_quotes_in_a_table_of_tabs(tmp_path: Path) -> None:
    loose = 'id\ttext\n1\t"Hello, he said\n2\t"Go" she said "now\n3\tplain\n'
    assert documents(put(tmp_path / "a.tsv", loose)) == ['"Hello, he said', '"Go" she said "now', "plain"]
    strict = 'id\ttext\n1\t"two\nlines"\n2\t"a ""word"""\n'
    assert documents(put(tmp_path / "b.tsv", strict)) == ["two\nlines", 'a "word"']
