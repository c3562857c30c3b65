"""metrics.csv: one row per logged step, appended; after a resume it holds what an uninterrupted run would have written.

In: rows of figures. Out: the file, and rows read back. Floats are written so that they read back exactly.
"""

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# train_loss: nats per token, mean since the row before; grad_norm: of this step, before clipping; val_ppl: compares
# within one tokenizer only; seconds: since the start, evaluations included, over all resumes; tokens_per_s: training
COLUMNS = ["step", "epoch", "tokens", "lr", "train_loss", "grad_norm"]
COLUMNS += ["val_loss", "val_ppl", "val_bpb", "seconds", "tokens_per_s"]


class Metrics:
    """The open file, its first `keep` bytes kept and the rest cut; a word where it has lost rows."""

    def __init__(self, path: Path, keep: int) -> None:
        self.file = open(path, "a+b")  # noqa: SIM115
        whole = self.file.tell() >= keep
        self.file.truncate(keep if whole else 0)
        try:
            self.kept()
        except (ValueError, KeyError, csv.Error):  # a bit has turned
            whole = False
        if not whole:
            print(f"{path}: rows are lost; those of the steps to come follow", file=sys.stderr)
            keep = 0
            self.file.truncate(0)
        if not keep:
            self._write(COLUMNS)

    def add(self, row: Mapping[str, float]) -> None:
        """Appends a row; what it lacks stays empty."""
        self._write([repr(row[column]) if column in row else "" for column in COLUMNS])

    def kept(self) -> list[dict[str, float]]:
        """The rows that are in the file, as they were added; cells that stayed empty are left out."""
        with open(self.file.name, newline="", encoding="utf-8") as file:
            return [{key: float(row[key]) for key in COLUMNS if row[key]} for row in csv.DictReader(file)]

    def saved(self) -> int:
        """The length of the file in bytes, once the disk has them all."""
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def _write(self, cells: Sequence[str]) -> None:
        self.file.write((",".join(cells) + "\n").encode())
        self.file.flush()
