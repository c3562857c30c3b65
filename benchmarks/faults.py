"""Counted trials of what must not break: python benchmarks/faults.py kill --trials 100

Kinds: kill, term (signals at random moments), disk (full), readonly, clock (it jumps), damage (files of a run),
hostile (a stranger's run), input (text and config), app (under load). The exit status is 1 if a trial failed.
`disk` and `readonly` mount, so they need root.
"""

import argparse
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trials import damage, hostile, inputs, kill, load
from trials.count import Count

KINDS: dict[str, tuple[Callable[..., None], int]] = {  # the trials, and how many where the user doesn't say
    "kill": (partial(kill.kills, number=signal.SIGKILL), 100),
    "term": (partial(kill.kills, number=signal.SIGTERM), 100),
    "disk": (kill.full_disks, 40),
    "readonly": (kill.read_only, 10),
    "clock": (kill.clocks, 20),
    "damage": (damage.damage, 3),
    "hostile": (hostile.hostile, 300),
    "input": (inputs.inputs, 10_000),
    "app": (load.app, 50),
}
MEMORY = Path("/dev/shm")  # where a file is on the disk at once: a kill needs no more


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=", ".join(KINDS), default=[])
    parser.add_argument("--trials", type=int, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    failed, lines = 0, []
    for kind in given.kinds or KINDS:
        count, began = Count(kind), time.perf_counter()
        work, usual = KINDS[kind]
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            work(count, Path(folder), given.trials or usual, seed=given.seed)
        failed += len(count.failures)
        seconds = time.perf_counter() - began
        lines.append(f"{kind:10}{count.trials:>8}{len(count.failures):>10}{seconds:>9.0f} s  {count.note}")
    print(f"{'kind':10}{'trials':>8}{'failures':>10}{'time':>11}", *lines, sep="\n")
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
