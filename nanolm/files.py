"""Files that are whole or not there: atomic writes, JSON, checksums, a lock, and folders built once for all processes.

In: paths and values. Out: files. A disk that is full, read-only or damaged gives a NanolmError that names the file.
Knows nothing of what the files mean. Needs a POSIX system (flock).
"""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nanolm.errors import NanolmError

LARGEST = 2**28  # bytes of a JSON file; a longer one is a mistake or an attack
_SIZES = "sizes.json"  # the last file of a built folder: the size of each other one


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Writes `data` so that a reader, or a crash, finds either the old file or the new one: aside, fsync, rename."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with _naming(path, "written"):
        try:
            with open(aside, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        _fsync(path.parent)


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents unless it is there; NanolmError where it can't be."""
    with _naming(path, "made"):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode(errors="backslashreplace"))  # a lone surrogate becomes its JSON escape


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; NanolmError if the file is missing or damaged."""
    with _naming(path, "read"):
        if (size := Path(path).stat().st_size) > LARGEST or not Path(path).is_file():
            raise NanolmError(f"{path}: {size:,} bytes are too many for a JSON file of nanolm's, or it is no file")
        data = Path(path).read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NanolmError(f"{path}: is damaged, not JSON ({error}); restore or delete it") from error


def user_path(text: str | Path) -> Path:
    """A path as a user types it: `~` and `~name` are home folders."""
    return Path(text).expanduser()


def matching(pattern: str | Path) -> list[Path]:
    """The files and folders that a user's path or glob names, sorted; a name that exists is no pattern, `[1].txt`."""
    path = user_path(pattern)
    return [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]


def names(path: Any) -> str:
    """The names of one file or of a list of them, without their folders; nothing for None."""
    return ", ".join(Path(str(one)).name for one in (path if isinstance(path, list) else [path or ""]))


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, as hex."""
    with _naming(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for a JSON-able value; the order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def taken(lock: IO[Any]) -> bool:
    """Takes the lock of an open file, unless another process has it; whether it did."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Holds the lock file `path` against other processes and threads; the system frees it if the process dies."""
    with ExitStack() as held:
        with _naming(path, "locked"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(open(path, "w")), fcntl.LOCK_EX)
        yield


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
                with _naming(folder, "written"):
                    shutil.rmtree(aside, ignore_errors=True)
                    aside.mkdir()
                    build(aside)
                    write_json(aside / _SIZES, {file.name: file.stat().st_size for file in aside.iterdir()})
                    for file in aside.iterdir():
                        _fsync(file)
                    shutil.rmtree(folder, ignore_errors=True)
                    os.replace(aside, folder)
                    _fsync(folder.parent)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    try:
        sizes = read_json(folder / _SIZES)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (NanolmError, OSError, AttributeError):
        return False


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: str | Path, done: str) -> Iterator[None]:
    """An OSError inside becomes a NanolmError that names the file and the mend."""
    try:
        yield
    except FileNotFoundError as error:
        raise NanolmError(f"{path}: there is no such file; check the name, or make it again") from error
    except OSError as error:
        raise NanolmError(f"{path}: can't be {done}: {error.strerror}; check free space and permissions") from error


def cached(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value in `path`, computed by the first of the parallel jobs that ask for it."""
    if not path.exists():
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                write_json(path, compute())
    return read_json(path)
