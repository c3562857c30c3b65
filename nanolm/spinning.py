"""How torch's threads wait for each other: spinning while the cores are theirs, asleep while others want them too.

In: what the kernel says of this process, once a second. Out: nothing but how threads wait; no result depends on it. On
an idle machine spinning is worth 8% of a training; beside other work a thread that spins for one without a core takes
that one's time, and three quarters of a training are lost. libgomp, the OpenMP of torch's wheels for Linux, counts the
threads of all its teams, and where there are more than cores they spin 300 times less. So while cores are missing,
teams with nothing to do are kept: they sleep, and the others don't spin.
"""

import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import torch

TASKS = Path("/proc/self/task")
MISSING, ENOUGH = 0.1, 0.03  # seconds a second that threads wait for a core: sleep from the first, spin below the other
LOOK = 1.0  # seconds


@cache
def spin_unless_busy() -> None:
    """From now on, in this process; not where the environment says how to wait, or the kernel doesn't say enough."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ) and waited():
        threading.Thread(target=_watch, daemon=True).start()


def waited() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run and had no core; none where it can't be told."""
    found = {}
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        with suppress(OSError, LookupError, ValueError):  # it ended just now; a kernel that doesn't say
            found[task.name] = int((task / "schedstat").read_text("utf-8").split()[1]) / 1e9
    return found


def _watch() -> None:
    idle, since = IdleTeams(), psutil.Process().create_time()  # the first look is on all that has been
    before: dict[str, float] = {}
    while True:
        now, at = waited(), time.time()
        missed = sum(seconds - before.get(thread, 0.0) for thread, seconds in now.items())
        idle.keep(needed(bool(idle.threads), missed / max(at - since, 1e-3)))
        before, since = now, at
        time.sleep(LOOK)


def needed(kept: bool, share: float) -> bool:
    """Whether idle teams are: `share` is the seconds a second that threads waited for a core, `kept` how it is now."""
    return share > (ENOUGH if kept else MISSING)


class IdleTeams:
    """Threads, each with a team of OpenMP's, that are only there: so many that teams have more threads than cores."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.end = threading.Event()

    def keep(self, wanted: bool) -> None:
        """Starts or ends them; returns when that is done."""
        if wanted and not self.threads and torch.get_num_threads() > 1:
            self.end.clear()
            count = len(os.sched_getaffinity(0)) // (torch.get_num_threads() - 1)
            there = threading.Barrier(count + 1)
            self.threads = [threading.Thread(target=self._idle, args=(there,), daemon=True) for _ in range(count)]
            for thread in self.threads:
                thread.start()
            there.wait()
        elif not wanted and self.threads:
            self.end.set()
            for thread in self.threads:
                thread.join()
            self.threads = []

    def _idle(self, there: threading.Barrier) -> None:
        torch.ones(torch.get_num_threads() << 15).neg_()  # 32,768 for each thread: now it has its team
        there.wait()
        self.end.wait()
