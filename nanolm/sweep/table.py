"""The table of a sweep's last launch: a row per job, the best first, and how many are done.

In: the sweep's folder. Out: lines on the terminal. Starts nothing.
"""

import math
from collections import Counter

from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import Job, finite

FINE = ("done", "skipped", "stopped")


def outcome(job: Job, started: float) -> str:
    """How it went: `done` in this launch, `skipped` because finished before it, or its state."""
    if job.state != "finished":
        return job.state
    return "done" if (job.folder / "status.json").stat().st_mtime >= started else "skipped"


def place(job: Job) -> tuple[float, float, float, str]:
    """What the table is sorted by: finished jobs by their score; then those that came furthest, by theirs there."""
    return job.value, -job.rung, finite(job.status.get("rung_bpb")), job.folder.name


def report(sweep: SweepFolder) -> int:
    """Prints the table of the last launch's jobs; returns how many are neither done nor skipped."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    started = sweep.note()["started"]
    table = Table(title=f"sweep {escape(str(sweep.path))}", title_justify="left")
    for column in ("job", "state", "val bits/byte", "time", ""):
        table.add_column(column, overflow="fold")
    counts: Counter[str] = Counter()
    jobs = [Job.read(sweep.path / name) for name in sweep.begun()]
    for job in sorted(jobs, key=place):
        state = outcome(job, started)
        counts[state] += 1
        value = f"{job.value:.4f}" if math.isfinite(job.value) else ""
        seconds = f"{job.status.get('seconds') or 0:.0f} s"
        words = str(job.status.get("error") or "")
        if state == "stopped":
            state, words = f"stopped at {job.rung:.0%}", f"{finite(job.status.get('rung_bpb')):.4f} there"
        table.add_row(escape(job.folder.name), state, value, seconds, escape(words))
    console = Console(highlight=False)
    console.print(table)
    failed = sum(count for state, count in counts.items() if state not in FINE)
    console.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if counts["skipped"]:
        console.print("skipped: finished before, with the same config and documents")
    if counts["stopped"]:
        console.print("stopped: left behind at a rung; python train.py resume=... trains one to its end")
    if failed:
        console.print("the same command again runs those, and only those, that are not done")
    return failed
