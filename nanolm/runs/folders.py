"""Where runs lie: every run folder under the folder of outputs, and the place of a new one.

In: the folder of outputs. Out: paths. Reads no run.
"""

import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nanolm.errors import RunError

OTHERS = ("wandb", "cache", "exports")  # folders of outputs in which no run is looked for


def run_folders(outputs: Path) -> Iterator[Path]:
    """Every run folder under `outputs`, those of sweeps included."""
    for place, folders, files in os.walk(outputs):
        if "manifest.json" in files:
            folders.clear()
            yield Path(place)
        folders[:] = [name for name in folders if name not in OTHERS and name[0] != "."]


def new_folder(outputs: Path, *parts: str | None) -> Path:
    """Makes outputs/<YYYY-MM-DD_HH-MM-SS>-<part>-<part>, with -2, -3 ... where another process was faster."""
    clean = [re.sub(r"[^\w.-]+", "-", part)[:40] for part in parts if part]
    name = "-".join([f"{datetime.now():%Y-%m-%d_%H-%M-%S}", *clean])
    folder, number = outputs / name, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = outputs / f"{name}-{number}"
        except OSError as error:
            raise RunError(f"outputs={outputs}: can't be written ({error.strerror}); give another outputs=") from None
