"""`tracking=tensorboard`: events in the run's own folder; `tensorboard --logdir outputs` shows all runs.

Needs the extra `tensorboard`. Torch's SummaryWriter writes them.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanolm.errors import ConfigError
from nanolm.tracking.base import Logger, RunInfo, TrackingConfig

METRICS = ("val_bpb", "test_bpb")  # beside the hyperparameters, in the tab HPARAMS


@dataclass
class TensorBoard(TrackingConfig):
    """An events file of the run."""

    name: str = "tensorboard"

    def check(self, tags: Sequence[str], **names: str | None) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("tracking=tensorboard: needs the package tensorboard: pip install -e '.[tensorboard]'")

    def logger(self, run: RunInfo) -> Logger:
        return TensorBoardLogger(run)


class TensorBoardLogger(Logger):
    """Rows as scalars, the config as hyperparameters, samples as text, curves as images."""

    def __init__(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        # after a resume all rows come again: what was logged before is taken back, else both would be shown
        self.writer = SummaryWriter(str(run.folder), purge_step=0, flush_secs=1)
        self.step, self.columns = 0, set[str]()
        for part in hparams(dict(flat(run.config)), dict.fromkeys(METRICS)):
            self.writer.file_writer.add_summary(part, 0)

    def log(self, row: Mapping[str, Any]) -> None:
        self.step = int(row["step"])
        self.columns |= set(row)
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, self.step)

    def report(
        self, summary: Mapping[str, Any], samples: Sequence[tuple[str, str]], images: Mapping[str, Path]
    ) -> None:
        from matplotlib.image import imread

        for name, value in flat(summary):
            if name not in self.columns and isinstance(value, int | float):
                self.writer.add_scalar(name, value, self.step)
        for prompt, text in samples:
            self.writer.add_text("samples", f"**{prompt}** {text}", self.step)
        for name, path in images.items():
            self.writer.add_image(name, imread(path), self.step, dataformats="HWC")

    def close(self, status: int) -> None:
        self.writer.close()


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(`model.dims`, 64) of nested mappings; what is no number stands as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            yield f"{prefix}{key}", value if number else str(value)
