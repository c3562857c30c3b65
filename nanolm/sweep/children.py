"""One job in a process of its own: what kills it kills nothing else, and it saves and stops when its parent is gone.

In: a function without arguments and the job's folder. Out: a started process; the folder's status says how it ended.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nanolm.errors import NanolmError, RankGone, warn_in_one_line
from nanolm.sweep.folder import STOP
from nanolm.sweep.jobs import Job, record_failure
from nanolm.tracking.wandb import clear_folders

HEAVY = ["nanolm.training.train", "nanolm.cli.door", "nanolm.sweep.launch", "nanolm.generator", "nanolm.training.speed"]
HEAVY += ["matplotlib.figure", "matplotlib.backends.backend_agg"]  # what `plots.py` imports late
POLL = 0.5  # seconds between looks at the parent and at the wish to stop


def start_method() -> str:
    """forkserver: children are forked from a process that has the heavy imports; spawn where there is no fork."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def start(
    work: Callable[[], Any], folder: Path, log: Path | None, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Starts `work`. Jobs side by side speak into a `log` each; None: to the terminal."""
    return start_plain(_run, (work, folder, log, environment or {}))


def start_plain(function: Callable[..., None], arguments: tuple[Any, ...], daemon: bool = False) -> BaseProcess:
    """Starts `function`, which an import finds, in a process; a `daemon` is ended when this process ends."""
    _settle_start_method()
    child = multiprocessing.Process(target=function, args=arguments, daemon=daemon)
    child.start()
    return child


def barrier(parties: int) -> Any:
    """A barrier for so many of these processes."""
    _settle_start_method()
    return multiprocessing.Barrier(parties)


def _settle_start_method() -> None:
    multiprocessing.set_start_method(start_method(), force=True)  # in a joblib worker it is one that no child knows
    if start_method() == "forkserver":
        multiprocessing.set_forkserver_preload(HEAVY)


def note_end(child: BaseProcess, folder: Path) -> None:
    """Once the child has ended: its status says so where it could not say it itself, because it was killed."""
    if child.exitcode and Job.read(folder).state not in ("failed", "interrupted"):
        cause = f"killed by signal {-child.exitcode}" if child.exitcode < 0 else f"ended with status {child.exitcode}"
        record_failure(folder, NanolmError(f"{cause}; the same sweep again goes on from there"), "interrupted")


def _run(work: Callable[[], Any], folder: Path, log: Path | None, environment: Mapping[str, str]) -> None:
    """In the child: does the work; a failure is recorded in the folder, by the first of several ranks."""
    os.environ.update(environment)
    warn_in_one_line("train")
    parent, everybody = multiprocessing.parent_process(), folder.parent / STOP
    save_when(lambda: everybody.exists() or (parent is not None and not parent.is_alive()))
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        work()
    except Exception as error:
        if int(environment.get("RANK", "0")) == 0:
            record_failure(folder, error, "interrupted" if isinstance(error, RankGone) else "failed")
        raise SystemExit(1) from None
    finally:
        clear_folders()


def save_when(condition: Callable[[], bool]) -> None:
    """Sends SIGTERM to this process, which saves and stops then, once `condition` holds."""

    def watch() -> None:
        while not condition():
            time.sleep(POLL)
        terminate()

    threading.Thread(target=watch, daemon=True).start()


def terminate() -> None:
    """Sends SIGTERM to this process."""
    if os.name == "nt":  # where os.kill would end it without a word
        signal.raise_signal(signal.SIGTERM)
    else:  # to the main thread, which may be waiting
        os.kill(os.getpid(), signal.SIGTERM)
