"""Files for the tests of the readers, and what `data=files` makes of them."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from nanolm.data.files import Files
from nanolm.errors import DataError


def documents(path: Any, **how: Any) -> list[str]:
    """What `data=files` makes of the files; the counts must add up."""
    counts: Counter[str] = Counter()
    found = list(Files(path=path if isinstance(path, list) else str(path), **how).documents(counts))
    assert len(found) == counts["read"] - counts["blank"] - counts["ragged"]
    return found


def complaint(path: Path, **how: Any) -> str:
    with pytest.raises(DataError) as error:
        documents(path, **how)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def put(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def table(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
