"""`data=files`: the user's own text, in files of any form.

In: paths, globs, folders, zips or addresses. Out: documents in the order of the files. Knows nothing of what is in a
file: that is `readers/`, imported where text is read, so that no start waits for it.
"""

import codecs
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from nanolm.config import knob, one_of, plain
from nanolm.data.base import DataConfig
from nanolm.errors import ConfigError

if TYPE_CHECKING:
    from nanolm.data.readers.source import ReadOptions, Source

PATHS = {"train": "train_path", "val": "val_path", "test": "test_path"}


@dataclass
class Files(DataConfig):
    """Paths are from the folder of the call; a list of them is read in its order."""

    name: str = "files"
    # str or list[str]: OmegaConf has no such union
    path: Any = knob(None, "files, globs, folders, zips or addresses, one or a list of them", path=True)
    train_path: Any = knob(None, "instead of path, where the text comes split: the training part", path=True)
    val_path: Any = knob(None, "the part that chooses among runs", path=True)
    test_path: Any = knob(None, "the part that is scored once; null: none", path=True)
    format: Optional[str] = knob(None, "text | csv | json | jsonl | parquet | arrow; null: by name or content")
    document: str = knob("line", "line | paragraph | article | file: what is one document; article: of WikiText")
    separator: Optional[str] = knob(None, "what stands between documents of plain text, as '<|endoftext|>'")
    column: str = knob("text", "of tables; meta.text: text inside meta")
    encoding: Optional[str] = knob(None, "of plain text, csv and json; null: UTF-8, or by the byte order mark")
    unescape: bool = knob(False, "undoes WikiText's ' @-@ ', ' @,@ ', ' @.@ '")

    def __post_init__(self) -> None:
        from nanolm.data.readers.read import READERS
        from nanolm.data.readers.text import DOCUMENTS

        super().__post_init__()
        one_of("data.document", self.document, DOCUMENTS)
        one_of("data.format", self.format, (None, *READERS))
        if self.separator and "\n" in self.separator:
            raise ConfigError("data.separator: must stand in one line; data.document=paragraph parts at blank lines")
        if self.encoding is not None and not _is_text_encoding(self.encoding):
            raise ConfigError(f"data.encoding={self.encoding}: no such encoding; as utf-16, cp1252, gb18030")
        given = [key for key in ("path", *PATHS.values()) if getattr(self, key) is not None]
        if given != ["path"] and given not in (["train_path", "val_path"], ["train_path", "val_path", "test_path"]):
            if "path" in given and "train_path" in given:
                split = "data.train_path, data.val_path and data.test_path are for a text that comes split"
                raise ConfigError(
                    f"data.path: goes without data.train_path; {split}, data=files data.path=FILE for one file"
                )
            keys = ", ".join(f"data.{key}" for key in given) or "data.path=None"
            raise ConfigError(f"{keys}: give data.path=FILE alone, or data.train_path, val_path and test_path")
        for key in given:
            patterns = _patterns(getattr(self, key))
            if not patterns or not all(pattern and isinstance(pattern, str) for pattern in patterns):
                raise ConfigError(f"data.{key}={getattr(self, key)}: name a file, a folder, a glob or a list of them")

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """The documents of every file, file after file."""
        return self._read(["path", *PATHS.values()], counts)

    def official_splits(self, counts: Counter[str]) -> dict[str, Iterator[str]]:
        """The documents of each split, where the text comes split."""
        if self.train_path is None:
            return {}
        return {split: self._read([key], counts) for split, key in PATHS.items() if getattr(self, key) is not None}

    def signature(self) -> dict[str, Any]:
        """The config, and path, size and time of each file."""
        from nanolm.data.readers.paths import file_identity

        return {**plain(self), "files": [file_identity(source) for source in self.sources()]}

    def advice(self, counts: Counter[str]) -> list[str]:
        """What a look at the first file says of how it is read."""
        from nanolm.data.readers.advice import propose

        return propose(self.sources()[0], self._options())

    def to_fetch(self) -> list[str]:
        """The addresses among the paths whose files are not in the cache."""
        from nanolm.data.readers.fetch import is_cached

        every = [pattern for key in ("path", *PATHS.values()) for pattern in _patterns(getattr(self, key))]
        return [pattern for pattern in every if "://" in pattern and not is_cached(pattern)]

    def sources(self) -> "list[Source]":
        """The files that are named, each once, those of the splits one after the other; DataError where none is."""
        return self._sources(["path", *PATHS.values()])

    def _sources(self, keys: list[str]) -> "list[Source]":
        from nanolm.data.readers.paths import find_sources

        patterns = [(f"data.{key}", pattern) for key in keys for pattern in _patterns(getattr(self, key))]
        return list(dict.fromkeys(source for key, pattern in patterns for source in find_sources(key, pattern)))

    def _read(self, keys: list[str], counts: Counter[str]) -> Iterator[str]:
        from nanolm.data.readers.read import read_documents

        for source in self._sources(keys):
            yield from read_documents(source, self._options(), counts)

    def _options(self) -> "ReadOptions":
        from nanolm.data.readers.source import ReadOptions

        names = ("document", "column", "format", "separator", "encoding", "unescape")
        return ReadOptions(**{name: getattr(self, name) for name in names})


def _patterns(paths: Any) -> list[Any]:
    if paths is None:
        return []
    return paths if isinstance(paths, list) else [paths]


def _is_text_encoding(name: str) -> bool:
    try:
        return bool("".encode(name) == b"" or codecs.lookup(name))
    except (LookupError, ValueError):
        return False
