"""Datasets: every kind of file gives its documents in order; whatever is wrong with one is said in one line."""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from nanolm.data.base import DataConfig
from nanolm.data.files import Files
from nanolm.data.movie_plots import MoviePlots
from nanolm.errors import ConfigError, DataError, NanolmError

REAL = Path(__file__).parents[2] / "shared" / "data"


def texts(config: DataConfig) -> tuple[list[str], dict[str, int]]:
    counts: Counter[str] = Counter()
    return list(config.documents(counts)), dict(counts)


def put(path: Path, data: str | bytes) -> str:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def table(path: Path, columns: dict[str, list[Any]]) -> str:
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("document", "expected", "counts"),
    [
        ("line", ["one\n", "two\n", "three"], {"read": 5, "blank": 2}),
        ("paragraph", ["one\ntwo\n", "three"], {"read": 2}),
        ("file", ["one\ntwo\n\n \nthree"], {"read": 1}),
    ],
)
def test_plain_text(tmp_path: Path, end: str, document: str, expected: list[str], counts: dict[str, int]) -> None:
    path = put(tmp_path / f"a.txt{end}", b"\xef\xbb\xbfone\ntwo\r\n\n \nthree")
    assert texts(Files(path=path, document=document)) == (expected, counts)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_tables(tmp_path: Path, end: str) -> None:
    quoted = put(tmp_path / f"a.csv{end}", 'id, text \n1,"one, ""two""\nthree"\n\n,\n2,\n3,four\x00\n4,a,b\n')
    assert texts(Files(path=quoted)) == (['one, "two"\nthree', "four\x00"], {"read": 6, "blank": 3, "ragged": 1})
    rows = '{"text": "one", "id": 1}\n\n{"text": null}\n{"text": "two\\nthree"}'
    assert texts(Files(path=put(tmp_path / f"a.jsonl{end}", rows))) == (["one", "two\nthree"], {"read": 4, "blank": 2})
    packed = table(tmp_path / "b.parquet", {"id": [1, 2], "plot": ["one", None]})
    if end:
        packed = put(tmp_path / "c.parquet.gz", Path(packed).read_bytes())
    assert texts(Files(path=packed, column="plot")) == (["one"], {"read": 2, "blank": 1})


def test_globs_and_lists_come_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt", "[d].txt"):
        put(tmp_path / name, name)
    monkeypatch.chdir(tmp_path)
    assert texts(Files(path="*.txt"))[0] == ["[d].txt", "a.txt", "b.txt"]
    assert texts(Files(path=["b.txt", "*.txt", "**/c.txt"]))[0] == ["b.txt", "[d].txt", "a.txt", "deep/c.txt"]
    assert texts(Files(path="[d].txt"))[0] == ["[d].txt"]


def test_a_cell_or_line_may_be_ten_megabytes(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    assert texts(Files(path=put(tmp_path / "a.csv", f"text\n{long}\n")))[0] == [long]
    assert texts(Files(path=put(tmp_path / "a.txt", long)))[0] == [long]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"fine\nna\xefve\n", "a.txt: line 2, byte 3: not UTF-8; it looks like"),
        ("a.csv", b"text\nfine\n\xff\n", "a.csv: line 3, byte 1: not UTF-8; it looks like"),
        ("a.csv", b"Plot,Title\nx,y\n", "a.csv: no column 'text'; data.column must be one of 'Plot', 'Title'"),
        ("a.csv", b"", "a.csv: no column 'text'; data.column must be one of (it has none)"),
        ("a.csv", b'text\n"open', "a.csv: line 2: not a csv row"),
        ("a.csv", b'text\n"a"b\n', "a.csv: line 2: not a csv row"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "a.jsonl: line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl: line 1: not a JSON object"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl: line 1: not JSON"),
        ("a.jsonl", b'{"plot": "a", "id": 1}\n', "a.jsonl: line 1: no column 'text'; data.column must be one of 'p"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl: line 1: 'text' is int, not text; choose another data.column"),
        ("a.parquet", b"PAR1 nonsense PAR1", "a.parquet: can't be read after row 0"),
        ("a.txt.gz", gzip.compress(b"word\n" * 9999, mtime=0)[:50], "a.txt.gz: can't be read after line"),
        ("a.pdf", b"%PDF", "a.pdf: can't tell what .pdf files are (known are .txt, "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        texts(Files(path=str(tmp_path / name)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parquet_columns_are_checked_and_pyarrow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.parquet", {"id": [1, 2], "plot": ["one", "two"]})
    with pytest.raises(DataError, match=r"no column 'text'; data\.column must be one of 'id', 'plot'"):
        texts(Files(path=path))
    with pytest.raises(DataError, match="row 1: 'id' is int, not text"):
        texts(Files(path=path, column="id"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow; pip install pyarrow"):
        texts(Files(path=path, column="plot"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.binary() | st.text(alphabet='text",\n\r\x00 ab{}:[]1é').map(str.encode),
    name=st.sampled_from(["a.txt", "a.csv", "a.jsonl", "a.txt.gz", "a.csv.gz", "a.parquet"]),
    header=st.sampled_from([b"", b"text\n", b"id,text\n", b'{"text": "a"}\n']),
    document=st.sampled_from(["line", "paragraph", "file"]),
)
def test_any_bytes_give_documents_or_one_line(
    tmp_path: Path, data: bytes, name: str, header: bytes, document: str
) -> None:
    (tmp_path / name).write_bytes(header + data)
    said = ""
    try:
        documents, counts = texts(Files(path=str(tmp_path / name), document=document))
    except NanolmError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        assert name in said
    else:
        assert len(documents) == counts.get("read", 0) - counts.get("blank", 0) - counts.get("ragged", 0)


def test_paths_that_name_nothing(tmp_path: Path) -> None:
    for path in ("missing.txt", "*.txt", "a\0b"):
        with pytest.raises(DataError, match=r"data\.path=.*: no such file; check the path"):
            Files(path=path if "\0" in path else str(tmp_path / path)).sources()
    with pytest.raises(DataError, match=r"holds no file; check the path"):
        Files(path=str(tmp_path)).sources()


@pytest.mark.parametrize("path", [None, "", [], [1], 3, {"a": 1}, ["a.txt", None]])
def test_paths_of_the_wrong_type(path: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path="):
        Files(path=path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("normalise", "dirty"), ("split", "half"), ("val", -0.1), ("val", 1.0), ("test", float("nan")), ("test", 0.95),
     ("maxlen", 0), ("limit", 0), ("document", "page")],
)  # fmt: skip
def test_fields_out_of_range_are_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}={value}"):
        Files(**{"path": "a.txt", key: value})


def test_the_signature_changes_with_the_file_and_the_config(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "one")
    first = Files(path=path).signature()
    assert first == json.loads(json.dumps(Files(path=path).signature()))
    assert first != Files(path=path, maxlen=3).signature()
    put(tmp_path / "a.txt", "two!")
    assert first != Files(path=path).signature()


def test_movie_plots_without_a_file_says_both_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(
        DataError, match=r"^data\.path: .*pip install kagglehub.* or download the CSV .*data\.path=FILE$"
    ):
        MoviePlots().signature()


class Hub:
    """Stands in for kagglehub."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def dataset_download(self, handle: str) -> str:
        assert handle == "jrobischon/wikipedia-movie-plots"
        if self.folder is None:
            raise ConnectionError("no network\nat all")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", hub)  # type: ignore[arg-type]
    return hub


def test_movie_plots_are_fetched_by_kagglehub(tmp_path: Path, hub: Hub) -> None:
    put(tmp_path / "wiki_movie_plots_deduped.csv", "Title,Plot\nA,One.\n,\n")
    assert texts(MoviePlots()) == (["One."], {"read": 2, "blank": 1})
    hub.folder = None
    with pytest.raises(DataError, match=r"kagglehub can't fetch .* \(ConnectionError\); download"):
        texts(MoviePlots())


@pytest.mark.skipif(not REAL.exists(), reason="no shared data")
@pytest.mark.parametrize(
    ("name", "counts"),
    [("movie_extracts", {"read": 30844}), ("wiki_movie_plots_head", {"read": 1999 + 32894, "blank": 32894})],
)
def test_real_movie_plots(name: str, counts: dict[str, int]) -> None:
    documents, found = texts(MoviePlots(path=str(REAL / f"{name}.csv.gz")))
    assert found == counts
    assert len(documents) == counts["read"] - counts.get("blank", 0)
