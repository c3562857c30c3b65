"""Files are whole or not there, whatever happens meanwhile; errors are one line that names the file."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import linux_only

from nanolm.errors import NanolmError
from nanolm.files import (
    fingerprint,
    make_folder,
    matching,
    names,
    read_json,
    sha256,
    user_path,
    write_atomic,
    write_json,
)


def full_disk(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(NanolmError, match=r"a\.txt: can't be written: No space left on device"):
        write_atomic(tmp_path / "a.txt", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


@linux_only
def test_a_folder_that_cant_be_made_is_not_sought() -> None:
    with pytest.raises(NanolmError, match="/proc/nothing/here: can't be made"):
        make_folder("/proc/nothing/here")


def test_where_nothing_can_be_written_the_error_names_the_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"")
    for path in (tmp_path / "file" / "a", tmp_path / "missing" / "a"):
        with pytest.raises(NanolmError, match=str(path)):
            write_atomic(path, b"x")


def test_json_comes_back_even_with_lone_surrogates(tmp_path: Path) -> None:
    value = {"ü": [1, 2.5, None, "\ud800", "x\ny"]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[" * 10**6, b"1" * 10**4])
def test_damaged_json_is_one_line_that_names_the_file(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.json").write_bytes(damage)
    with pytest.raises(NanolmError, match=r"a\.json: is damaged.*delete it$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(NanolmError, match=r"b\.json: there is no such file"):
        read_json(tmp_path / "b.json")


def test_fingerprints(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    assert len(fingerprint("\ud800")) == 16


def test_files_are_named_without_their_folders() -> None:
    assert names("a/b.txt") == "b.txt"
    assert names(["/x/b.txt", "c/d.csv"]) == "b.txt, d.csv"
    assert names(None) == ""
    assert names(10**30) == "1" + "0" * 30


def test_paths_are_read_as_users_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("b.txt", "a.txt", "[1].txt", "1.txt"):
        (tmp_path / name).touch()
    assert user_path("~/a.txt") == tmp_path / "a.txt"
    assert matching("~/?.txt") == [tmp_path / "1.txt", tmp_path / "a.txt", tmp_path / "b.txt"]
    assert matching("~/[1].txt") == [tmp_path / "[1].txt"], "a name that exists is no pattern"
    assert matching("~/c*") == []
