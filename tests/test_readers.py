"""Every form of text that people have on disk is read whole, or refused in one line that says the mend."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from text_files import complaint, documents, put, table

from nanolm.data.files import Files
from nanolm.errors import ConfigError, DataError

STORY = "“Don’t,” she said — the naïve café owner’s £5 wasn’t enough…\nНо это просто.\n"
ZSTD = zstandard.ZstdCompressor()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": ZSTD.compress,
}


# Encodings and the ends of lines.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_mean_the_same(tmp_path: Path, encoding: str, end: str) -> None:
    rows = [json.dumps({"text": line}) for line in STORY.splitlines()]
    forms = {"a.txt": STORY, "a.csv": "text\n" + STORY.replace("“Don’t,” ", ""), "a.jsonl": "\n".join(rows) + "\n"}
    for name, text in forms.items():
        path = put(tmp_path / name, text.replace("\n", end).encode(encoding))
        assert [text.strip("\n") for text in documents(path)] == [
            line.replace("“Don’t,” ", "") if name == "a.csv" else line for line in STORY.splitlines()
        ]
    quoted = put(tmp_path / "b.csv", f'text{end}"one{end}two"{end}'.encode(encoding))
    assert documents(quoted) == ["one\ntwo"]
    assert documents(put(tmp_path / "b.txt", f"a{end}b{end}{end}c".encode(encoding)), document="paragraph") == [
        "a\nb\n",
        "c",
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("“Don’t,” she said — the café owner’s £5 wasn’t enough…\n" * 3, "cp1252"),
        ("Привет, мир. Это просто текст на русском языке.\n", "cp1251"),
        ("东京是日本的首都。我们在这里写一些中文的句子。\n", "gb18030"),
        ("東京は日本の首都です。とても大きい町です。\n", "shift_jis"),
    ],
)
def test_another_encoding_is_guessed_and_read_when_told(tmp_path: Path, text: str, encoding: str) -> None:
    path = put(tmp_path / "a.txt", b"plain\n" + text.encode(encoding))
    said = complaint(path)
    assert f"line 2, byte 1: not UTF-8; it looks like {encoding}: data.encoding={encoding} reads it" in said
    assert "".join(documents(path, encoding=encoding)) == "plain\n" + text
    assert "not ascii throughout" in complaint(path, encoding="ascii")


@pytest.mark.parametrize("guess", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_not_taken_for_nuls(tmp_path: Path, guess: str) -> None:
    path = put(tmp_path / "a.txt", "Once upon a time\nthere was\n".encode(guess))
    assert f"looks like {guess} without a byte order mark; data.encoding={guess} reads it" in complaint(path)
    assert documents(path, encoding=guess) == ["Once upon a time\n", "there was\n"]


@pytest.mark.parametrize("encoding", ["latin7000", "", "base64", "rot13", "a\0b"])
def test_an_encoding_that_is_none(encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.encoding=.*: no such encoding"):
        Files(path="a.txt", encoding=encoding)


# Packed.


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_read_whole_or_refused(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    first, second = pack(b"one\n" * 5000), pack(b"two\n" * 5000)
    for name in (f"a.txt{ending}", f"A.TXT{ending.upper()}", "a.txt"):  # by content, whatever the name
        assert documents(put(tmp_path / name, first + second)) == ["one\n"] * 5000 + ["two\n"] * 5000
    for damaged in (first[:-5], first + second[:-5], first + b"garbage", first[:20] + b"\x99" + first[21:]):
        assert "can't be read after" in complaint(put(tmp_path / f"b.txt{ending}", damaged))
    assert documents(put(tmp_path / f"c.csv{ending}", pack(b"id,text\n1,yes\n"))) == ["yes"]
    assert documents(put(tmp_path / f"d.txt{ending}", pack(b""))) == []


def test_padding_and_skippable_frames(tmp_path: Path) -> None:
    padded = lzma.compress(b"one\n") + bytes(8) + lzma.compress(b"two\n") + bytes(4)
    assert documents(put(tmp_path / "a.txt.xz", padded)) == ["one\n", "two\n"]
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    frames = skipped + ZSTD.compress(b"one\n") + skipped + ZSTD.compress(b"two\n")
    assert documents(put(tmp_path / "a.txt.zst", frames)) == ["one\n", "two\n"]
    assert documents(put(tmp_path / "a.txt.gz", gzip.compress(b"one\n") + bytes(512))) == ["one\n"]


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_gives_all_its_texts(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {
        "w/b.txt": "two\n",
        "w/a.txt": "one\n",
        "__MACOSX/._a.txt": "x",
        "README.md": "x",
    }
    path = zipped(tmp_path / "a.zip", {**members, "w/c.txt": lzma.compress(b"three\n")})
    assert documents(path) == ["one\n", "two\n", "three\n"]
    assert documents(path / "w/b.txt") == ["two\n"]
    assert documents(path / "*/[ab].txt") == ["one\n", "two\n"]
    assert documents(str(tmp_path / "*.zip")) == ["one\n", "two\n", "three\n"]
    assert "holds no file" in complaint(path / "w/missing.txt")
    assert "holds .csv, .txt files; choose with a glob" in complaint(
        zipped(tmp_path / "b.zip", {"a.txt": "x", "a.csv": "x"})
    )
    assert "holds (no ending), .csv files" in complaint(zipped(tmp_path / "c.zip", {"1984": "x", "a.csv": "x"}))
    data = bytearray(path.read_bytes())
    assert "not a whole zip" in complaint(put(tmp_path / "c.zip", bytes(data[:-30])))
    data[data.index(b"two") if b"two" in data else 40] ^= 0xFF
    assert "can't be read after" in complaint(put(tmp_path / "d.zip", bytes(data)))
    tables = zipped(tmp_path / "e.zip", {"a.parquet": table({"text": ["yes"]})})
    assert documents(tables) == ["yes"]


# Paths.


def test_a_folder_of_shards(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        put(tmp_path / f"deep/part-{number:02}.parquet", table({"text": [str(number)]}))
    put(tmp_path / "README.md", "about")
    put(tmp_path / ".cache/x.parquet", "no")
    assert documents(tmp_path) == ["1", "2", "10"]
    put(tmp_path / "more.csv", "text\n")
    assert f"holds .csv, .parquet files; choose with a glob, as {tmp_path}/*.parquet" in complaint(tmp_path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "is a pipe or device, and a text is read more than once" in complaint(tmp_path / "pipe")
    for address in ("s3://bucket/a.txt", "ftp://host/a.txt"):
        with pytest.raises(DataError, match=r"can't read \w+:// addresses; download the file and give its path"):
            documents(address)
    assert "is a file and no zip" in complaint(put(tmp_path / "a.txt", "x") / "inside.txt")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    for name in ("meta.pkl", "meta", "model.pt"):
        assert "is a pickle, which can run code" in complaint(put(tmp_path / name, pickle.dumps(Bad())))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "is a web page, as a failed download leaves it"),
        ("a.parquet", b"\n<html lang=en>", "is a web page"),
        ("a.tar.gz", gzip.compress(b"x" * 99, mtime=0), "is an archive; unpack it, and give the folder"),
        (
            "a.jsonl",
            b'[\n{"text": "a"}\n]',
            "line 1: not JSON (Expecting value: line 1 column 2 (char 1)); data.format=json",
        ),
        ("a.jsonl", b'[{"text": "a"}]', "line 1: not a JSON object; data.format=json reads an array"),
        ("a.parquet", b"", "can't be read after row 0: Parquet file size is 0 bytes"),
    ],
)
def test_what_lies_where_text_should(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    assert message in complaint(put(tmp_path / name, data))


def test_two_encodings_in_one_file_are_not_read_as_one(tmp_path: Path) -> None:
    good, bad = "a café, “quoted”\n", "the owner’s £5 wasn’t enough, naïve or not…\n"
    said = complaint(put(tmp_path / "a.txt", (good * 5).encode() + bad.encode("cp1252") + good.encode()))
    assert (
        "line 6, byte 10: not UTF-8; but other lines are: two encodings in one file; convert those lines from" in said
    )


def test_text_decoded_wrongly_once_is_told(tmp_path: Path) -> None:
    garbled = "“I can’t,” she said.\n".encode().decode("cp1252", "replace") * 3
    [said] = Files(path=str(put(tmp_path / "a.txt", garbled)), document="file").advice(Counter())
    assert "UTF-8 that was once read as cp1252" in said
    assert Files(path=str(put(tmp_path / "b.txt", "Â© Ã la carte â€\n" * 9))).advice(Counter()) == []


def test_other_names_are_read_when_told(tmp_path: Path) -> None:
    path = put(tmp_path / "a.log", "one\ntwo\n")
    assert "can't tell what .log files are" in complaint(path)
    assert documents(path, format="text") == ["one\n", "two\n"]
    assert documents(put(tmp_path / "b.dat", "text\none\n"), format="csv") == ["one"]
    for name in ("a.train", "a.dev", "wiki.test.tokens", "wiki.train.raw", "A.TXT", "plain"):
        assert documents(put(tmp_path / name, "one\n")) == ["one\n"]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json"])
def test_a_file_of_nothing_gives_nothing(tmp_path: Path, data: bytes, name: str) -> None:
    assert documents(put(tmp_path / name, data)) == []
