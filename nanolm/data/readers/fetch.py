"""An address -> a file in the user's cache, fetched once.

In: http:// or https://. Out: the path of the whole file, or a DataError that says how to get it otherwise. What the
file holds is looked at by nobody here.
"""

import http.client
import os
import shutil
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from nanolm.errors import DataError
from nanolm.files import fingerprint, make_folder, user_cache
from nanolm.locks import locked
from nanolm.text import first_line

SECONDS = 30.0  # without an answer


def fetched(address: str) -> Path:
    """The file at an address, downloaded unless it lies in the cache; a line on stderr says where from and to."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise DataError(f"{address}: can't read {parts.scheme}:// addresses; download the file and give its path")
    path = cache_path(address)
    make_folder(path.parent)
    with locked(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            aside = path.with_name(f"{path.name}.part")
            print(f"fetching {address} to {path}", file=sys.stderr)
            try:
                with urllib.request.urlopen(address, timeout=SECONDS) as answer, open(aside, "wb") as file:
                    shutil.copyfileobj(answer, file)
                    size = answer.headers.get("Content-Length")
                    if size and file.tell() != int(size):
                        raise OSError(f"{file.tell():,} of {int(size):,} bytes came")
                os.replace(aside, path)
            except (OSError, http.client.HTTPException, ValueError) as error:
                mend = "check the network, or download it elsewhere and give its path"
                raise DataError(f"{address}: can't be fetched ({first_line(error)}); {mend}") from error
            finally:
                aside.unlink(missing_ok=True)
    return path


def cache_path(address: str) -> Path:
    """Where the file at an address lies once it is fetched."""
    return user_cache() / f"{fingerprint(address)}-{Path(urlsplit(address).path).name or 'file'}"


def is_cached(pattern: str) -> bool:
    """Whether nothing would have to be fetched for an address, or for what is in a zip at one."""
    address, inside, _ = pattern.partition(".zip/")
    return cache_path(address + inside.rstrip("/")).exists()
