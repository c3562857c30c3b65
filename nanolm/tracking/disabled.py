"""`tracking=disabled`: metrics.csv alone."""

from dataclasses import dataclass

from nanolm.tracking.base import Logger, RunInfo, TrackingConfig


@dataclass
class Disabled(TrackingConfig):
    """Nothing is logged."""

    name: str = "disabled"

    def logger(self, run: RunInfo) -> Logger:
        return Logger()
