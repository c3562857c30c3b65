"""`compare.py watch=true`: a live page on this machine alone, and a table in the terminal; in a pipe a line per event.

In: a CompareConfig. Out: a server at 127.0.0.1 and what is printed, until ctrl-c.
"""

import time
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from nanolm.comparing.config import CompareConfig
from nanolm.comparing.live import PAUSE, Values
from nanolm.comparing.page_server import Watch, serve_watch
from nanolm.comparing.record import sweeps
from nanolm.files import make_folder
from nanolm.text import escape_controls

FRAME = 8  # lines of the terminal that are no jobs


def watch_runs(config: CompareConfig) -> None:
    """Shows the page and the table until ctrl-c."""
    make_folder(config.outputs)
    if config.sweep == "latest" and not sweeps(Path(config.outputs)):
        print(f"waiting for a sweep to begin under {config.outputs}", flush=True)
        while not sweeps(Path(config.outputs)):
            time.sleep(PAUSE)
    watch = Watch(config)
    server = serve_watch(watch, config.port)
    address = f"http://127.0.0.1:{server.server_port}"
    print(f"nanolm: {address} (ctrl-c ends)", flush=True)
    if config.open:
        webbrowser.open(address)
    try:
        with printer(Console(highlight=False)) as show:
            while True:
                show(watch.look())
                time.sleep(watch.jobs.pause)
    finally:
        server.shutdown()


@contextmanager
def printer(console: Console) -> Iterator[Callable[[Values], None]]:
    """What prints the jobs: over themselves in a terminal, as events in a pipe."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda shown: live.update(terminal_table(shown, console.height - FRAME), refresh=True)
    else:
        before: Values = {}

        def show(shown: Values) -> None:
            for line in events(before, shown):
                print(escape_controls(line), flush=True)
            before.update(shown)

        yield show


def events(before: Values, shown: Values) -> list[str]:
    """A line for each job that has begun, changed its state, or been scored anew."""
    old, lines = {job["name"]: job for job in before.get("jobs", [])}, []
    for job in shown["jobs"]:
        known = old.get(job["name"], {})
        if (job["state"], job["score"]) != (known.get("state"), known.get("score")):
            score = "" if job["score"] is None else f" {job['score']:.4f} val bits/byte"
            lines.append(f"{job['name']}: {job['state']} {job['progress']:.0%}{score} {job['why']}".rstrip())
    return lines


def terminal_table(shown: Values, most: int = 1000) -> Table:
    """The best `most` jobs, and below how many there are of each state."""
    money = ["cost"] if shown["priced"] else []
    titles = ("job", "state", "done", "val bits/byte", "left", "core-hours", *money)
    jobs = sorted(shown["jobs"], key=lambda job: (job["score"] is None, job["score"] or 0, job["name"]))
    states = ", ".join(f"{count} {state}" for state, count in Counter(job["state"] for job in jobs).items())
    spent = f"{sum(job['core_hours'] for job in jobs):.3f} core-hours"
    more = f"; {len(jobs) - most} more on the page" if len(jobs) > most else ""
    table = Table(*titles, title=escape(shown["title"]), caption=escape(f"{states}; {spent}{more}"))
    table.title_justify = table.caption_justify = "left"
    for job in jobs[: max(1, most)]:
        score = "" if job["score"] is None else f"{job['score']:.4f}"
        cells = [escape(job["label"]), escape(job["state"]), f"{job['progress']:.0%}", score, clock(job["left"])]
        table.add_row(*cells, f"{job['core_hours']:.3f}", *[f"{job['money']:.2f}" for _ in money])
    return table


def clock(seconds: float | None) -> str:
    """`1:02:03`, `2:03`; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
