"""Paths as users write them -> the sources to read: files, globs, folders, zips and what is in them, addresses.

In: the text of a key. Out: Sources, sorted by name where the path names several, and what identifies them. Of what is
in a file it knows the table of contents of a zip and of a folder that `datasets` saved.
"""

import glob
import json
import os
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from nanolm.data.readers.read import ENDINGS
from nanolm.data.readers.source import PACKED, Source, is_zip
from nanolm.errors import DataError
from nanolm.files import expand_home
from nanolm.text import first_line

_NO_TEXT = ("readme", "license", "licence", "changelog", "dataset_info.", "state.json")


def find_sources(key: str, pattern: str) -> list[Source]:
    """What a path names, at least one source; DataError, which names `key`, where it names none."""
    where = f"{key}={pattern}"
    if "://" in pattern:
        from nanolm.data.readers.fetch import fetched  # here: 30 ms that `--cfg job` need not wait for

        address, inside, members = pattern.partition(".zip/")
        return in_file(where, fetched(address + inside.rstrip("/")), members or "*")
    path = Path(expand_home(pattern))
    for parent in (path, *path.parents):
        if parent.is_file():
            inside = str(path.relative_to(parent))
            return in_file(where, parent, "*" if inside == "." else inside)
        if parent.is_dir():
            break
    if path.is_dir():
        return in_folder(where, path)
    if path.exists():
        raise DataError(f"{where}: is a pipe or device, and a text is read more than once; write it to a file first")
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    sources = [source for file in found if file.is_file() for source in in_file(where, file, "*")]
    if not sources:
        raise DataError(f"{where}: no such file; check the path")
    return sources


def in_file(where: str, path: Path, members: str) -> list[Source]:
    """The file; of a zip its members whose names fit the glob `members`, those that hold no text left out."""
    if not is_zip(path) or path.suffix.lower() not in (".zip", ""):
        if members != "*":
            raise DataError(f"{where}: {path} is a file and no zip; check the path")
        return [Source(path)]
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a whole zip ({first_line(error)}); fetch it again") from error
    return _alike(where, [Source(path, name) for name in names if fnmatch(name, members) and _holds_text(name)])


def in_folder(where: str, folder: Path) -> list[Source]:
    """The files of a folder and those below: shards, or what `save_to_disk` of the library `datasets` wrote."""
    if (folder / "state.json").is_file():
        try:
            names = [file["filename"] for file in json.loads((folder / "state.json").read_bytes())["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}/state.json: not as the library datasets writes it; save it again") from error
        return [Source(folder / Path(str(name)).name) for name in names]
    if (folder / "dataset_dict.json").is_file():
        parts = ", ".join(sorted(path.parent.name for path in folder.glob("*/state.json")))
        mend = f"data.train_path={folder}/train data.val_path={folder}/validation, or data.path={folder}/train alone"
        raise DataError(f"{where}: holds the splits {parts}; give {mend}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    shown = [path for path in files if _holds_text(str(path.relative_to(folder)))]
    return _alike(where, [source for path in shown for source in in_file(where, path, "*")])


def _holds_text(name: str) -> bool:
    """Whether a file of a folder is one of its texts: not hidden, and no note about them."""
    parts = name.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and not parts[-1].lower().startswith(_NO_TEXT)


def _alike(where: str, sources: list[Source]) -> list[Source]:
    """The sources, if all are of one kind; DataError where there are none or several kinds."""
    kinds = sorted({source.kind for source in sources})
    if len({ENDINGS.get(kind, kind) for kind in kinds}) > 1:
        pattern = where.partition("=")[2].rstrip("/")
        named = ", ".join(kind or "(no ending)" for kind in kinds)
        raise DataError(f"{where}: holds {named} files; choose with a glob, as {pattern}/*{kinds[-1]}")
    if not sources:
        raise DataError(f"{where}: holds no file; check the path")
    return sources


def file_identity(source: Source) -> list[str | int]:
    """Path, size in bytes, time of change in nanoseconds, and the member of a zip."""
    stat = os.stat(source.path)
    found: list[str | int] = [str(source.path.resolve()), stat.st_size, stat.st_mtime_ns]
    return [*found, source.member] if source.member else found


def size_of(source: Source) -> int | None:
    """Its bytes unpacked; None where only reading it would tell."""
    if source.member:
        with zipfile.ZipFile(source.path) as archive:
            return archive.getinfo(source.member).file_size
    return None if source.path.suffix.lower() in PACKED else source.path.stat().st_size
