"""`data=movie_plots`: the plots of Kaggle's "Wikipedia Movie Plots" (jrobischon/wikipedia-movie-plots, CC BY-SA 4.0).

In: the CSV file, plain or .gz, at `data.path`, or fetched by kagglehub. Out: the column `Plot`, row by row.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from nanolm.config import knob, plain
from nanolm.data.base import DataConfig
from nanolm.errors import DataError

if TYPE_CHECKING:  # readers are imported where text is read, so that no start waits for them
    from nanolm.data.readers.source import Source

DATASET = "jrobischon/wikipedia-movie-plots"


@dataclass
class MoviePlots(DataConfig):
    """`path`: the CSV file; None: kagglehub fetches it, where that package is installed."""

    name: str = "movie_plots"
    path: Optional[str] = knob(None, "the CSV file; null: kagglehub fetches it", path=True)
    column: str = knob("Plot", "of the CSV file")

    def documents(self, counts: Counter[str]) -> Iterator[str]:
        """The plots in file order."""
        from nanolm.data.readers.read import read_documents
        from nanolm.data.readers.source import ReadOptions

        return read_documents(self.source(), ReadOptions(column=self.column, format="csv"), counts)

    def signature(self) -> dict[str, Any]:
        """The config, and path, size and time of the file."""
        from nanolm.data.readers.paths import file_identity

        return {**plain(self), "files": [file_identity(self.source())]}

    def source(self) -> "Source":
        """The CSV file; fetched where `path` is None."""
        from nanolm.data.readers.paths import find_sources

        return find_sources("data.path", fetch() if self.path is None else self.path)[0]


def fetch() -> str:
    """The CSV file in kagglehub's own cache, downloaded if it isn't there."""
    download = f"download the CSV from kaggle.com/datasets/{DATASET} and give data.path=FILE"
    try:
        import kagglehub
    except ImportError as error:
        mends = f"`pip install kagglehub` to fetch it, or {download}"
        raise DataError(f"data.path: movie_plots needs a file; {mends}") from error
    try:
        folder = Path(kagglehub.dataset_download(DATASET))
    except Exception as error:  # whatever the network or Kaggle does, the mend is the same
        raise DataError(f"data.path: kagglehub can't fetch {DATASET} ({type(error).__name__}); {download}") from error
    return f"{folder}/*.csv"
