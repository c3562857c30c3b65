"""Processes that share a folder: one at a time, and what one has made is not made again."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_files import full_disk

from nanolm.errors import NanolmError
from nanolm.files import read_json
from nanolm.locks import built_once, cached, locked, try_lock


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "deep" / "a.lock"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_folder_is_built_once_and_again_when_damaged(tmp_path: Path) -> None:
    built = 0

    def build(folder: Path) -> None:
        nonlocal built
        built += 1
        (folder / "a").write_text("whole")

    for damage in (
        None,
        lambda path: path.unlink(),
        lambda path: path.write_text("w"),
        lambda path: path.write_text(""),
    ):
        if damage:
            damage(tmp_path / "folder" / "a")
        for _ in range(2):
            assert (built_once(tmp_path / "folder", build) / "a").read_text() == "whole"
    assert built == 4
    (tmp_path / "folder" / "sizes.json").write_text("[]")
    built_once(tmp_path / "folder", build)
    assert built == 5


def test_a_failed_build_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / ".folder.part").mkdir()  # as a killed process leaves it
    (tmp_path / ".folder.part" / "junk").touch()
    with pytest.raises(NanolmError, match="folder: can't be written: No space left"):
        built_once(tmp_path / "folder", full_disk)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.lock"]
    built_once(tmp_path / "folder", lambda folder: (folder / "a").touch())
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "sizes.json"]


HOLDER = "import sys; from nanolm.locks import try_lock; lock = try_lock(sys.argv[1]); print(bool(lock)); input()"


def test_a_lock_is_free_once_its_process_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    assert try_lock(tmp_path / ".lock") is None
    holder.kill()
    holder.communicate()
    lock = try_lock(tmp_path / ".lock")
    assert lock
    lock.release()


def test_who_waited_for_a_lock_file_that_was_deleted_shares_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    held, waited = try_lock(tmp_path / "run" / ".lock"), threading.Event()

    def wait() -> None:
        with locked(tmp_path / "run" / ".lock"):
            waited.set()
            assert try_lock(tmp_path / "run" / ".lock") is None, "the file that it holds is the one under the name"

    thread = threading.Thread(target=wait)
    thread.start()
    assert held
    assert not waited.wait(0.2)
    shutil.rmtree(tmp_path / "run")  # as a sweep does with a job that failed
    (tmp_path / "run").mkdir()
    held.release()
    thread.join(20)
    assert waited.is_set()


def test_a_value_is_computed_once(tmp_path: Path) -> None:
    numbers = iter([1, 2])
    assert [cached(tmp_path / "a.json", lambda: next(numbers)) for _ in range(2)] == [1, 1]
    assert read_json(tmp_path / "a.json") == 1


def test_where_no_lock_can_lie_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NanolmError, match="file"), locked(tmp_path / "file" / "a.lock"):
        pass
    with pytest.raises(NanolmError, match="file"):
        try_lock(tmp_path / "file" / "a.lock")
