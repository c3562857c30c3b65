"""What ended a run, in words: one line for status.json and for whoever started it.

In: an exception. Out: a line, an updated status, and the exception that the program ends with. A run that is finished
stays finished, whatever comes after.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals

import torch

from nanolm.errors import NanolmError, RankGone, RunError, one_line
from nanolm.runs.run import Run
from nanolm.training.progress import Progress
from nanolm.training.stop import Stop, StopNow

NO_MEMORY = "no memory left; lower batch_size and raise accumulate"


@contextmanager
def ending(run: Run, progress: Progress, stop: Stop) -> Iterator[None]:
    """Writes into status.json what ended the work inside; a full disk or memory becomes a RunError."""
    try:
        yield
    except BaseException as error:
        line, state = in_words(error, run.folder, stop), "failed"
        if isinstance(error, StopNow | KeyboardInterrupt | RankGone):
            state = "interrupted"
        with suppress(NanolmError):  # a full disk; what ended the run is said in any case
            if not run.finished():
                run.update_status(state=state, error=line, step=progress.step, seconds=progress.seconds)
        if isinstance(error, StopNow):
            print(f"{line} after step {progress.step}, all saved; go on: python train.py {run.word('resume')}")
            raise SystemExit(128 + (stop.signal or 0)) from None
        if isinstance(error, OSError) or is_memory(error):
            raise RunError(line) from error
        raise


def in_words(error: BaseException, folder: Path, stop: Stop) -> str:
    """`error` as a line that can be understood without a traceback."""
    if isinstance(error, StopNow):
        return f"stopped by {Signals(stop.signal or 0).name}"
    if isinstance(error, KeyboardInterrupt):
        return "stopped by ctrl-C, pressed twice; what came after the last checkpoint is lost"
    if isinstance(error, SystemExit):
        return f"the program was ended with status {error.code}"
    if isinstance(error, NanolmError):
        return str(error)
    if isinstance(error, OSError):
        return refusal(error, folder)
    if is_memory(error):
        return f"{folder}: {NO_MEMORY}"
    return f"{type(error).__name__}: {one_line(error)}"


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out; on a CPU torch says so with a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def refusal(error: OSError, folder: Path) -> str:
    """A full or read-only disk in one line."""
    return f"{error.filename or folder}: {error.strerror}; check free space and permissions"
