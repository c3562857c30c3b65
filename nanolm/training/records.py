"""What a run says of itself: the machine it runs on, its status at the start, its name and config in W&B."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from nanolm.config import plain
from nanolm.errors import NanolmError
from nanolm.runs.run import Run
from nanolm.tracking.base import RunInfo
from nanolm.training.distributed import world_size
from nanolm.training.plan import steps_at
from nanolm.training.progress import Progress
from nanolm.training.setup import Setup


def environment(setup: Setup) -> dict[str, Any]:
    """Versions, device, threads, git commit and command line: what one needs to run it again."""
    return {
        "command": sys.argv,
        "git_commit": git_commit(Path(__file__).resolve().parents[2]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(setup.device) if setup.device.type == "cuda" else str(setup.device),
        "precision": setup.precision,
        "threads": torch.get_num_threads(),
        "processes": world_size(),
    }


def first_status(setup: Setup, run: Run, progress: Progress) -> dict[str, Any]:
    """What status.json holds from the first step on."""
    precision = setup.precision
    if progress.step and known_precision(run) not in (None, precision):
        precision = f"{known_precision(run)}, then {precision}"
        print(f"trained in {precision}: precision=auto means another one on this machine", file=sys.stderr)
    status = {
        "state": "running",
        "created": run.manifest["created"],
        "corpus": setup.corpus.fingerprint,
        "documents": setup.corpus.counts,
        "vocabulary": len(setup.tokenizer),
        "context": setup.context,
        "precision": precision,  # of the training; scores are measured in fp32
        "parameters": setup.model.summary(),
        "steps": steps_at(run.manifest["plan"], progress.step),
    }
    return status | (progress.best or {}) | {"step": progress.step, "seconds": progress.seconds}


def known_precision(run: Run) -> str | None:
    """What the run was last trained in."""
    try:
        status = run.status()
    except NanolmError:  # there is none yet, or it is damaged
        return None
    return str(status["precision"]).rpartition(" ")[2] if "precision" in status else None


def run_info(setup: Setup, run: Run, until: float = 1.0) -> RunInfo:
    """What tracking is told of the run; it has another tag on the way to a rung."""
    known = {
        "corpus": setup.corpus.fingerprint,
        "vocabulary": len(setup.tokenizer),
        "parameters": setup.model.summary(),
        "precision": setup.precision,  # what `auto` stands for here
    }
    tags = [*setup.config.tags, f"rung {until:.0%}"] if until < 1 else setup.config.tags
    return RunInfo(
        id=run.manifest["id"],
        folder=run.folder,
        outputs=Path(setup.config.outputs),
        run_name=setup.config.run_name,
        group=setup.config.group,
        tags=tags,
        config=plain(setup.config) | known,
    )


def git_commit(folder: Path) -> str | None:
    """The commit that `folder` is at; None where it is no repository or git is missing."""
    if not (folder / ".git").exists() or not shutil.which("git"):
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.strip() or None
