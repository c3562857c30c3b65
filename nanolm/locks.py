"""Processes that share a folder: locks, and what is computed by the first that asks and read by the others.

In: paths, and functions that fill them. Out: the filled folder or the value. Knows nothing of what the files mean.
The system frees a lock when its process dies, on Linux, macOS and Windows alike (filelock).
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nanolm.errors import NanolmError
from nanolm.files import fsync, make_folder, naming, read_json, replace, write_json

_SIZES = "sizes.json"  # the last file of a built folder: the size of each other one


def try_lock(path: str | Path) -> FileLock | None:
    """The lock file `path`, held until `release()` or the end of the process; None where another holds it.

    Who waited for a lock file that was deleted meanwhile gets a new one. Who holds a lock while its file is deleted
    doesn't notice, so a folder is deleted only by who holds its lock or has made sure that nobody can.
    """
    lock = FileLock(path)
    with naming(path, "locked"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
    return lock


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Waits for the lock file `path` and holds it against other processes and threads."""
    make_folder(Path(path).parent)
    lock = FileLock(path)
    with naming(path, "locked"):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build(aside)` unless an earlier call, here or in another process, has already done so.

    The folder appears under its name only when whole; one with a file missing or of another size is built again.
    """
    if _whole(folder):
        return folder
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not _whole(folder):
            aside = folder.with_name(f".{folder.name}.part")  # a killed process may have left one
            try:
                with naming(folder, "written"):
                    shutil.rmtree(aside, ignore_errors=True)
                    aside.mkdir()
                    build(aside)
                    write_json(aside / _SIZES, {file.name: file.stat().st_size for file in aside.iterdir()})
                    for file in aside.iterdir():
                        fsync(file)
                    shutil.rmtree(folder, ignore_errors=True)
                    replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    try:
        sizes = read_json(folder / _SIZES)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (NanolmError, OSError, AttributeError):
        return False


def cached(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value in `path`, computed by the first of the parallel jobs that ask for it."""
    if not path.exists():
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                write_json(path, compute())
    return read_json(path)
