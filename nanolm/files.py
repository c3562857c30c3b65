"""Files that are whole or not there: atomic writes, JSON, checksums.

In: paths and values. Out: files. A disk that is full, read-only or damaged gives a NanolmError that names the file.
Knows nothing of what the files mean.
"""

import glob
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanolm.errors import NanolmError

LARGEST = 2**28  # bytes of a JSON file; a longer one is a mistake or an attack
WINDOWS = os.name == "nt"
RETRIES = 40  # of a rename on Windows, 25 ms apart


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Writes `data` so that a reader, or a crash, finds either the old file or the new one."""
    with atomically(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place once it is whole and on the disk."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with naming(path, "written"):
        try:
            aside.touch()
            mode = aside.stat().st_mode
            yield aside
            aside.chmod(mode)  # safetensors 0.8 leaves a file of its own there, for its owner alone
            fsync(aside)
            replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def is_link_or_special(path: Path) -> bool:
    """Whether a folder's entry is neither a plain file nor a folder; one that has been renamed meanwhile is none."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # what write_atomic had aside
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents unless it is there; NanolmError where it can't be."""
    with naming(path, "made"):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode(errors="backslashreplace"))  # a lone surrogate becomes its JSON escape


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; NanolmError if the file is missing or damaged."""
    with naming(path, "read"):
        if (size := Path(path).stat().st_size) > LARGEST or not Path(path).is_file():
            raise NanolmError(f"{path}: {size:,} bytes are too many for a JSON file of nanolm's, or it is no file")
        data = Path(path).read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NanolmError(f"{path}: is damaged, not JSON ({error}); restore or delete it") from error


def user_cache() -> Path:
    """Where what is fetched once is kept for all folders."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nanolm")


def expand_home(text: str) -> str:
    """A path or an address as a user types it, with `~` and `~name` as home folders, where there is such a user."""
    return os.path.expanduser(text)


def user_path(text: str | Path) -> Path:
    """A path as a user types it."""
    return Path(expand_home(str(text)))


def matching(pattern: str | Path) -> list[Path]:
    """The files and folders that a user's path or glob names, sorted; a name that exists is no pattern, `[1].txt`."""
    path = user_path(pattern)
    return [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]


def names(path: Any) -> str:
    """The names of one file or of a list of them, without their folders; nothing for None."""
    return ", ".join(Path(str(one)).name for one in (path if isinstance(path, list) else [path or ""]))


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, as hex."""
    with naming(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for a JSON-able value; the order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def replace(source: Path, target: Path) -> None:
    """Renames a file or folder over `target`, and returns once the disk knows it.

    Windows refuses while another process reads the target, which takes it milliseconds: there it is tried for a second.
    """
    for attempt in range(RETRIES + 1):
        try:
            os.replace(source, target)
            break
        except PermissionError:
            if not WINDOWS or attempt == RETRIES:
                raise
            time.sleep(0.025)
    if not WINDOWS:  # which has no handles of folders
        fsync(target.parent)


def fsync(path: Path) -> None:
    """Returns once a file, or on POSIX a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows flushes no read-only handle
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(path: str | Path, done: str) -> Iterator[None]:
    """An OSError inside becomes a NanolmError that names the file and the mend."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and done != "made":
            raise NanolmError(f"{path}: there is no such file; check the name, or make it again") from error
        raise NanolmError(f"{path}: can't be {done}: {error.strerror}; check free space and permissions") from error
