"""Which run is meant: `latest`, `best`, or a folder.

In: a word and the folder of outputs. Out: a run folder, or a RunError with the mend.
"""

import sys
from pathlib import Path

from nanolm.errors import NanolmError, RunError
from nanolm.files import user_path
from nanolm.runs.folders import run_folders
from nanolm.runs.run import BEST, LAST, Run


def find_run(spec: str, outputs: str | Path = "outputs") -> Path:
    """A run folder: `latest` (newest weights), `best` (lowest val bits per byte on latest's corpus), or a path."""
    outputs = user_path(outputs)
    if spec not in ("latest", "best"):
        found = next((folder for folder in (user_path(spec), outputs / spec) if Run.resumable(folder)), None)
        if found is None:
            raise RunError(f"{spec}: no run folder; give latest, best, or a folder that python train.py made")
        return found
    weights = [path for folder in run_folders(outputs) for name in (LAST, BEST) if (path := folder / name).exists()]
    if not weights:
        raise RunError(f"no run with weights under {outputs}: python train.py makes one")
    latest = max(weights, key=lambda path: path.stat().st_mtime).parent
    return latest if spec == "latest" else _best(latest, {path.parent for path in weights})


def _best(latest: Path, folders: set[Path]) -> Path:
    corpus = Run.open(latest).status().get("corpus")
    scores: dict[Path, float] = {}
    for folder in sorted(folders):
        try:
            status = Run.open(folder).status()
        except NanolmError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        stopped = status.get("state") == "stopped"  # at a rung of a sweep, and left behind there
        if status.get("corpus") == corpus and isinstance(status.get("val_bpb"), float) and not stopped:
            scores[folder] = status["val_bpb"]
    if not scores:
        raise RunError(f"run=best: no run on the corpus of {latest} has been evaluated; take run=latest")
    return min(scores, key=lambda folder: scores[folder])
