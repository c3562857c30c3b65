"""`compare.py watch=true`: a live page on this machine alone, and a table in the terminal; in a pipe a line per event.

In: a CompareConfig. Out: a server at 127.0.0.1 until ctrl-c. Whoever wants to press a button has to send the page's own
token, and no other site can read it; a name that another address was given (DNS rebinding) is refused.
"""

import json
import secrets
import subprocess
import sys
import time
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from nanolm.comparing.config import CompareConfig
from nanolm.comparing.live import Jobs
from nanolm.comparing.records import sweeps
from nanolm.errors import ConfigError, NanolmError
from nanolm.files import make_folder
from nanolm.sweep.folder import STOP
from nanolm.text import escape_controls
from nanolm.web.html import Html, page, plotly, tag

PAUSE = 2.0  # seconds between two looks at the folders
LONGEST = 10_000  # bytes of a request


class Watch:
    """What the page shows and can do; one look at the folders serves all who ask soon after."""

    def __init__(self, config: CompareConfig) -> None:
        self.jobs, self.token = Jobs(config), secrets.token_urlsafe()
        self._lock, self._looked = Lock(), 0.0
        self._shown: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """All that is shown now."""
        with self._lock:
            if time.monotonic() - self._looked > 0.9 * PAUSE:
                self._shown, self._looked = self.jobs.look(), time.monotonic()
            return self._shown

    def page(self) -> str:
        """The page itself, which asks for the rest."""
        body = (
            tag("header", id="head") + tag("p", class_="mattered", hidden="") + tag("div", id="jobs", class_="scroll")
        )
        body += tag("div", class_="charts") + tag("h3", "Samples of the ticked jobs") + tag("div", class_="cards")
        return page("watch", "nanolm", Html(body), {"token": self.token, "pause": PAUSE}, charts="/plotly.js")

    def folder(self, job: Any) -> Path:
        """The folder of a job that is known by this name; NanolmError for any other."""
        for folder in self.jobs.folders():
            if str(folder) == job:
                return folder
        raise NanolmError(f"{str(job)[:80]}: no such job")

    def stop(self, job: Any) -> str:
        """Asks the job to save and stop."""
        (self.folder(job) / STOP).touch()
        return f"{Path(job).name}: asked to save and stop"

    def promote(self, job: Any) -> str:
        """Starts a process that trains the job to the end of its plan; it outlives the page."""
        folder = self.folder(job)
        (folder / STOP).unlink(missing_ok=True)
        script = Path(__file__).resolve().parents[2] / "train.py"
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            command = [sys.executable, str(script), f"resume={folder}"]
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        return f"{folder.name}: goes on; what it says is in {folder / 'log.txt'}"


class Handler(BaseHTTPRequestHandler):
    """Answers the page's requests."""

    watch: ClassVar[Watch]

    def do_GET(self) -> None:
        if not self.asked_here():
            return
        where = urlsplit(self.path)
        if where.path == "/":
            self.answer(self.watch.page(), "text/html")
        elif where.path == "/plotly.js":
            self.answer(plotly(), "text/javascript", keep=True)
        elif where.path == "/data":
            shown = self.watch.look()
            known = parse_qs(where.query).get("version") == [str(shown["version"])]
            self.answer(json.dumps({"version": shown["version"]} if known else shown), "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self.asked_here():
            return
        if not secrets.compare_digest(self.headers.get("X-Token", "").encode(), self.watch.token.encode()):
            self.send_error(HTTPStatus.FORBIDDEN, "not asked by the page")
            return
        actions = {"/stop": self.watch.stop, "/promote": self.watch.promote}
        if self.path not in actions:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            size = min(LONGEST, int(self.headers.get("Content-Length", 0)))
            asked = json.loads(self.rfile.read(size))
            said = actions[self.path](asked["job"])
        except (NanolmError, OSError, ValueError, KeyError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
        self.answer(json.dumps({"said": said}), "application/json")

    def asked_here(self) -> bool:
        """Whether the request names this machine's own address; else it is refused."""
        port = self.connection.getsockname()[1]
        hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or origin.removeprefix("http://") in hosts):
            return True
        self.send_error(HTTPStatus.FORBIDDEN, "another address")
        return False

    def answer(self, text: str, kind: str, keep: bool = False) -> None:
        """Sends a text; `keep`: the browser needn't ask again."""
        data = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "max-age=86400" if keep else "no-store")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the terminal has the table."""


def serve_watch(watch: Watch, port: int | None = None) -> ThreadingHTTPServer:
    """The server, running in a thread; on any free port where none is given. ConfigError if it can't listen."""
    handler = type("BoundHandler", (Handler,), {"watch": watch})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port or 0), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"port={port}: can't listen there ({error}); give another") from error
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    return server


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
        if sys.stdout.isatty():
            with Live(terminal_table(watch.look()), refresh_per_second=1, console=Console(highlight=False)) as live:
                while True:
                    time.sleep(PAUSE)
                    live.update(terminal_table(watch.look()))
        before: dict[str, Any] = {}
        while True:
            shown = watch.look()
            for line in events(before, shown):
                print(escape_controls(line), flush=True)
            before = shown
            time.sleep(PAUSE)
    finally:
        server.shutdown()


def events(before: dict[str, Any], shown: dict[str, Any]) -> list[str]:
    """A line for each job that has begun, changed its state, or been scored anew."""
    old, lines = {job["name"]: job for job in before.get("jobs", [])}, []
    for job in shown["jobs"]:
        known = old.get(job["name"], {})
        if (job["state"], job["score"]) != (known.get("state"), known.get("score")):
            score = "" if job["score"] is None else f" {job['score']:.4f} val bits/byte"
            lines.append(f"{job['name']}: {job['state']} {job['progress']:.0%}{score} {job['why']}".rstrip())
    return lines


def terminal_table(shown: dict[str, Any]) -> Table:
    """The jobs, the best first."""
    money = ["price"] if shown["priced"] else []
    titles = ("job", "state", "done", "val bits/byte", "left", "core-hours", *money)
    table = Table(*titles, title=escape(shown["title"]), title_justify="left")
    for job in sorted(shown["jobs"], key=lambda job: (job["score"] is None, job["score"] or 0, job["name"])):
        score = "" if job["score"] is None else f"{job['score']:.4f}"
        cells = [escape(job["label"]), job["state"], f"{job['progress']:.0%}", score, clock(job["left"])]
        table.add_row(*cells, f"{job['core_hours']:.3f}", *[f"{job['money']:.2f}" for _ in money])
    return table


def clock(seconds: float | None) -> str:
    """`1:02:03`, `2:03`; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
