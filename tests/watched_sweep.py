"""A sweep's folder that grows as its jobs would let it."""

import time
from pathlib import Path
from typing import Any

from comparing_runs import config, make_run

from nanolm.comparing.config import CompareConfig
from nanolm.files import write_json

COMMAND = ["train.py", "-m", "model.dims=32,64", "epochs=3", "hydra/launcher=joblib"]


class Sweep:
    """A sweep's folder that is written as its jobs would write it."""

    def __init__(self, outputs: Path) -> None:
        self.outputs, self.folder = outputs, outputs / "sweeps" / "dims"
        self.folder.mkdir(parents=True)
        note = {"swept": ["model.dims"], "command": COMMAND, "started": time.time(), "jobs": 4}
        write_json(self.folder / "sweep.json", note)

    def job(self, dims: int, state: str = "running", step: int = 1000, **status: Any) -> Path:
        """A job at a step of 1,000, written over what it was."""
        folder = self.folder / f"dims={dims}"
        known = {"state": state, "step": step, "steps": 1000, "seconds": 0.06 * step}
        make_run(folder, config(model__dims=dims), known | status)
        lines = (folder / "metrics.csv").read_text().splitlines()[: 1 + step // 10]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        write_json(folder / "environment.json", {"threads": 2, "processes": 1})
        return folder

    def config(self, **fields: Any) -> CompareConfig:
        """What compare.py is told."""
        return CompareConfig(sweep="dims", outputs=str(self.outputs), watch=True, **fields)
