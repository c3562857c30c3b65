"""`data=files`: the user's own text in txt, md, csv, jsonl or parquet files, each also .gz.

In: a path, a glob, or a list of both. Out: documents in the order of the files. Knows nothing of what is in a file:
that is `readers.py`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanolm.config import knob, one_of, plain
from nanolm.data.base import DataConfig
from nanolm.data.readers import DOCUMENTS, read_documents
from nanolm.errors import ConfigError, DataError
from nanolm.files import matching, user_path


@dataclass
class Files(DataConfig):
    """`path`: a file or glob, or a list of them, from the folder of the call. `document` is for plain text only."""

    name: str = "files"
    # str or list[str]: OmegaConf has no such union
    path: Any = knob(None, "a file, a glob or a list of them: txt, md, csv, jsonl, parquet", path=True)
    document: str = knob("line", "line | paragraph | file: what is one document of plain text")
    column: str = knob("text", "of csv, jsonl and parquet")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("data.document", self.document, DOCUMENTS)
        patterns = self._patterns()
        if not patterns or not all(pattern and isinstance(pattern, str) for pattern in patterns):
            raise ConfigError(f"data.path={self.path}: name a file, a glob or a list of them, as data.path=mine.txt")

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """The documents of every file, file after file."""
        for path in self.paths():
            yield from read_documents(path, self.document, self.column, counts)

    def signature(self) -> dict[str, Any]:
        """The config, and path, size and time of each file."""
        return {**plain(self), "files": [identity(path) for path in self.paths()]}

    def paths(self) -> list[Path]:
        """The files that `path` names, each once, a glob's sorted by name; DataError where there is none."""
        return list(dict.fromkeys(path for pattern in self._patterns() for path in expand(pattern)))

    def _patterns(self) -> list[str]:
        return self.path if isinstance(self.path, list) else [self.path]


def expand(pattern: str) -> list[Path]:
    """The files that a path or glob names, at least one."""
    files = [file for file in matching(pattern) if file.is_file()]
    if not files:
        is_folder = user_path(pattern).is_dir()
        what = f"is a folder; write data.path='{pattern}/*.txt'" if is_folder else "no such file; check the path"
        raise DataError(f"data.path={pattern}: {what}")
    return files


def identity(path: Path) -> list[str | int]:
    """Path, size in bytes and time of change in nanoseconds."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
