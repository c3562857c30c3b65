"""`data=shakespeare`, `data=tinystories` ...: the corpora that everybody knows, a YAML each in `conf/data/`.

In: a YAML that says where a corpus is published, how it is read, and how large it is. Out: its documents; a file that
is shorter than what was published is refused: a download was cut. `data.path=...` (or the paths of its splits) reads
your own copy, packed or not.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Optional

from nanolm.config import between, knob
from nanolm.data.files import Files
from nanolm.errors import DataError


@dataclass
class Named(Files):
    """A known corpus. Its addresses are fetched once, into the user's cache."""

    name: str = "named"
    corpus: str = knob("", "how people call it")
    source: str = knob("", "where it is described and can be had")
    licence: str = knob("", "of the text")
    expected_bytes: Optional[int] = knob(None, "of all files as they were published, unpacked; null: not known")
    expected_documents: Optional[int] = knob(None, "in all splits; null: not known")

    def __post_init__(self) -> None:
        super().__post_init__()
        between("data.expected_bytes", self.expected_bytes, 1)
        between("data.expected_documents", self.expected_documents, 1)

    @property
    def label(self) -> str:
        """The option of `data=`."""
        return self.corpus

    def signature(self) -> dict[str, Any]:
        """As of files; DataError where they are shorter than what was published."""
        size = self._size()
        if self.expected_bytes and size is not None and size < self.expected_bytes:
            cut = f"{size:,} bytes of {self.expected_bytes:,}: the download was cut; fetch it again from {self.source}"
            raise DataError(f"data={self.corpus}: {cut}, or give data.expected_bytes=null")
        return super().signature()

    def advice(self, counts: Counter[str]) -> list[str]:
        """What differs from the corpus as it was published."""
        sizes = {"bytes": (self._size(), self.expected_bytes), "documents": (counts["read"], self.expected_documents)}
        return [
            f"data={self.corpus}: {found:,} {what} instead of {expected:,}: this is another version of it"
            for what, (found, expected) in sizes.items()
            if expected is not None and found not in (None, expected)
        ]

    def _size(self) -> int | None:
        from nanolm.data.readers.paths import size_of  # here, so that no start waits for it

        sizes = [size_of(source) for source in self.sources()]
        return None if None in sizes else sum(size for size in sizes if size)
