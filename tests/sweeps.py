"""Sweeps of tiny models as a user starts them, for their tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = "model=tiny model.dims=16 model.heads=2 model.nblocks=1 batch_size=4 samples=1 tracking=disabled log_every=1"


def write_text(folder: Path) -> Path:
    words = ["the", "general", "army", "dog", "dragon", "sleeps", "walks", "sings", "and", "falls"]
    lines = [
        " ".join(words[(i * j + j) % len(words)] for j in range(5 + i % 7)) + f" x{'abcdefghij'[i % 10]}{i % 3}"
        for i in range(200)
    ]
    path = folder / "text.txt"
    path.write_text("\n".join(lines))
    return path


def command(text: Path, *overrides: str) -> list[str]:
    outputs = text.parent / "outputs"
    given = [*TINY.split(), "data=files", f"data.path={text}", "data.normalise=none", f"outputs={outputs}"]
    if not any(word.startswith(("hydra/launcher", "hydra.launcher")) for word in overrides):
        given.append("hydra.launcher.n_jobs=1")
    return [sys.executable, str(ROOT / "train.py"), "-m", *given, f"hydra.sweep.dir={outputs}/sweeps/s", *overrides]


def sweep(text: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(text, *overrides), cwd=text.parent, env=environment, capture_output=True, text=True, timeout=300
    )


def statuses(text: Path) -> dict[str, dict[str, object]]:
    files = (text.parent / "outputs/sweeps/s").glob("*/status.json")
    return {file.parent.name.rsplit("-", 1)[0]: json.loads(file.read_text()) for file in files}
