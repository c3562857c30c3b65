"""A run folder whose weights are int8: a quarter of the size. In: a run. Out: a folder that `run=` takes."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from nanolm.files import write_json
from nanolm.model.fast.int8 import quantize
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import read_weights, write_weights


def write_int8(run: Run, folder: Path) -> None:
    """The run with its best weights in int8: a quarter of the size. `run=` takes the folder; training does not."""
    model, (_, best) = run.trained(), read_weights(run.weights())
    quantize(model)
    names = {"tokenizer.json", "speller.json", "environment.json"} & set(run.manifest["files"])
    same: dict[str, Any] = {name: partial(shutil.copy, run.file(name)) for name in names}
    made = Run.create(folder, run.config, run.manifest["plan"], same)
    write_weights(folder / BEST, model.state_dict(), best)
    write_json(folder / "status.json", run.status())
    print(f"{made.weights().stat().st_size:,} bytes of weights; they were {run.weights().stat().st_size:,}")
