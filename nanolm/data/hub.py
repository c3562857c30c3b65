"""`data=hub`: a data set of Hugging Face's Hub, or a local folder in one of its forms, by the library `datasets`.

In: the name of a data set or a folder, and of its splits and column. Out: documents row by row, from the library's
cache or as they come. Nothing of a data set is executed: the library, from version 4 on, runs no scripts. `readers/`
are imported where text is read, so that no start waits for them.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from nanolm.config import knob, plain
from nanolm.data.base import DataConfig
from nanolm.errors import ConfigError, DataError
from nanolm.text import first_line


@dataclass
class Hub(DataConfig):
    """Without `val_split` the documents of `train_split` are split as `split` says; with it they stay as published."""

    name: str = "hub"
    dataset: str = knob("", "of the Hub, as roneneldan/TinyStories, or a local folder")
    subset: Optional[str] = knob(None, "as wikitext-2-v1, where the data set has several")
    revision: Optional[str] = knob(None, "a commit or tag, so that the text can't change; null: the newest")
    train_split: str = knob("train", "the rows to learn from")
    val_split: Optional[str] = knob(None, "as validation; null: a share of train_split")
    test_split: Optional[str] = knob(None, "beside val_split; null: none")
    column: str = knob("text", "that holds the text; meta.text: text inside meta")
    streaming: bool = knob(False, "reads rows as they come and keeps no copy")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataset:
            raise ConfigError("data.dataset: name a data set of the Hub, as data.dataset=roneneldan/TinyStories")
        if self.test_split is not None and self.val_split is None:
            raise ConfigError(f"data.test_split={self.test_split}: needs data.val_split too")

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """The rows of `train_split`, in their order."""
        return self._not_blank(self.train_split, counts)

    def official_splits(self, counts: Counter[str]) -> dict[str, Iterator[str]]:
        """The rows of each split, where `val_split` is given."""
        if self.val_split is None:
            return {}
        names = {"train": self.train_split, "val": self.val_split, "test": self.test_split}
        return {split: self._not_blank(name, counts) for split, name in names.items() if name is not None}

    def signature(self) -> dict[str, Any]:
        """The config; of a local folder path, size and time of its files too."""
        from nanolm.data.readers.paths import file_identity
        from nanolm.data.readers.source import Source

        files = sorted(path for path in Path(self.dataset).rglob("*") if path.is_file())
        return {**plain(self), "files": [file_identity(Source(path)) for path in files]}

    def _not_blank(self, split: str, counts: Counter[str]) -> Iterator[str]:
        from nanolm.data.readers.read import not_blank

        return not_blank(self._texts(split), counts)

    def _texts(self, split: str) -> Iterator[str]:
        from nanolm.data.readers.cells import row_text

        if not Path(self.dataset).exists() and not _reachable():
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # for minutes of tries, a look into the library's cache
        try:
            import datasets
        except ImportError as error:
            raise DataError("data=hub: needs the package datasets; pip install datasets") from error
        row, where = 0, f"data.dataset={self.dataset}"
        try:
            rows = datasets.load_dataset(
                self.dataset, self.subset, split=split, revision=self.revision, streaming=self.streaming
            )
            for row, values in enumerate(rows, 1):
                yield row_text(f"{where}: row {row} of {split}", self.column, values)
        except DataError:
            raise
        except Exception as error:  # the library's own are many: no network, no such data set, subset, split, damage
            said = f"can't be read after row {row} of {split}: {type(error).__name__}: {first_line(error)}"
            mend = "check the network and the names, or download its files and give data=files data.path=FOLDER"
            raise DataError(f"{where}: {said}; {mend}") from error


def _reachable() -> bool:
    """Whether the Hub answers, or a proxy may know a way to it."""
    from urllib.request import getproxies  # here: 15 ms that `--cfg job` need not wait for

    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or ""
    if getproxies():
        return True
    try:
        socket.create_connection((host, 443), timeout=10).close()
    except OSError:
        return False
    return True
