"""A Hugging Face Space: a folder with the model and the page that writes with it.

In: a run. Out: what `nanolm.app.space` reads, its start and its requirements.
"""

import shutil
from importlib.resources import files
from pathlib import Path

from nanolm.files import make_folder, write_atomic, write_json
from nanolm.runs.run import Run
from nanolm.runs.weights import write_weights
from nanolm.web.html import resource

START = '"""Starts the page of this folder."""\n\nfrom nanolm.app.space import launch\n\nlaunch()\n'


def write_space(run: Run, folder: Path) -> None:
    """What `space.py` reads, app.py, requirements.txt, and the package itself. No path of this machine goes along."""
    model, package = run.trained(), Path(str(files("nanolm")))
    make_folder(folder)
    write_json(folder / "model.json", run.config["model"] | {"context": model.context})
    write_weights(folder / "model.safetensors", model.state_dict(), {})
    shutil.copy(run.file("tokenizer.json"), folder)
    shutil.copytree(package, folder / "nanolm", ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True)
    if (package.parent / "LICENSE").exists():
        shutil.copy(package.parent / "LICENSE", folder)
    write_atomic(folder / "app.py", START)
    write_atomic(folder / "requirements.txt", resource("hub/requirements.txt"))
