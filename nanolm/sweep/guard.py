"""What brings a sweep to its end, whatever happens: a stop asked for, a launcher that fails, and the table.

In: the folder of the sweep that this process leads. Out: jobs that have saved, a printed table, an exit status.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanolm.errors import one_line
from nanolm.locks import try_lock
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.follow import Follower
from nanolm.sweep.table import report

STOP_SECONDS = 120.0  # that jobs get to save and stop
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

leading: SweepFolder | None = None  # the sweep of this process, once Hydra has begun it
following: Follower | None = None  # says what its jobs say into files


def lead(folder: SweepFolder, follow: bool = False) -> None:
    """From here on this process answers for the sweep in `folder`: a signal stops all its jobs.

    follow: its jobs don't speak to this terminal, so this process says when they begin and end.
    """
    global leading, following
    leading, following = folder, Follower(folder) if follow else None
    # Its processes take this nanolm, not an installed one (Python 3.11's forkserver looks for its preloads without
    # sys.path)
    here = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    for number in SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # asked twice, ends at once
    if leading:
        stop_jobs(leading)
    raise SystemExit(128 + number)


def stop_jobs(sweep: SweepFolder) -> None:
    """Asks every job to save and stop, and waits for those of this machine."""
    sweep.ask_to_stop()
    end = time.monotonic() + STOP_SECONDS
    for file in sweep.path.glob("*/.lock"):
        while not (free := try_lock(file)) and time.monotonic() < end:
            time.sleep(0.1)
        if free:
            free.release()


def guarded(run: Callable[[], Any]) -> None:
    """Runs Hydra; if that turned out to be a sweep, prints its table, and ends with status 1 if a job failed."""
    status, failed = 0, 0
    try:
        run()
    except SystemExit as end:
        if leading is None:
            raise
        status = int(end.code or 0)
    except (RuntimeError, ValueError, OSError, ImportError) as error:  # of the launcher: no cluster, a killed worker
        if leading is None:
            raise
        print(f"train.py: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
        status = 1
    finally:
        if following is not None:
            following.stop()
        if leading is not None and not leading.remove_if_empty():
            failed = report(leading)
    if leading is not None:
        raise SystemExit(status or (1 if failed else 0))
