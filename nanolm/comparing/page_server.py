"""The live page: what it is, what its buttons do, and whom it answers; served alone here, and by the app.

In: a CompareConfig. Out: answers to requests. Whoever wants to press a button has to send the page's own token, and no
other site can read it.
"""

import json
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from nanolm.comparing.config import CompareConfig
from nanolm.comparing.live import Jobs, Values
from nanolm.errors import ConfigError, NanolmError
from nanolm.sweep.folder import STOP
from nanolm.web.guard import is_own_page
from nanolm.web.html import Html, page, plotly, tag

LONGEST = 10_000  # bytes of a request


@dataclass(frozen=True)
class Request:
    """What of a request matters. path: the last part of it, with what was asked."""

    method: str
    path: str
    host: str | None
    origin: str | None
    token: str | None
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """A status and a text. kept: the browser needn't ask again."""

    status: HTTPStatus
    text: str = ""
    kind: str = "application/json"
    kept: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Those that matter to a browser."""
        keep = "max-age=86400" if self.kept else "no-store"
        kind = f"{self.kind}; charset=utf-8"
        return {"Content-Type": kind, "Cache-Control": keep, "X-Frame-Options": "SAMEORIGIN"}


class Watch:
    """The page over some jobs; one look at the folders serves all who ask soon after.

    loopback: it is for this machine alone. acts: whether its buttons do anything.
    """

    def __init__(self, config: CompareConfig, loopback: bool = True, acts: bool = True) -> None:
        self.jobs, self.token = Jobs(config), secrets.token_urlsafe()
        self.loopback, self.acts = loopback, acts
        self._lock, self._looked = Lock(), 0.0
        self._shown: Values = {}

    def look(self) -> Values:
        """All that is shown now."""
        with self._lock:
            if time.monotonic() - self._looked > 0.9 * self.jobs.pause:
                self._shown, self._looked = self.jobs.look(), time.monotonic()
            return self._shown

    def answer(self, asked: Request) -> Answer:
        """What a request gets."""
        if not is_own_page(asked.host, asked.origin, self.loopback):
            return Answer(HTTPStatus.FORBIDDEN, "another address")
        return self._do(asked) if asked.method == "POST" else self._give(asked)

    def _give(self, asked: Request) -> Answer:
        where = urlsplit(asked.path)
        if where.path == "":
            return Answer(HTTPStatus.OK, self.page(), "text/html")
        if where.path == "plotly.js":
            return Answer(HTTPStatus.OK, plotly(), "text/javascript", kept=True)
        if where.path == "data":
            [since] = parse_qs(where.query).get("since", ["0"])
            self.look()
            with self._lock:
                news = self.jobs.news(int(since) if since.isdecimal() and len(since) < 20 else 0)
            return Answer(HTTPStatus.OK, json.dumps(news | {"pause": self.jobs.pause}))
        return Answer(HTTPStatus.NOT_FOUND)

    def _do(self, asked: Request) -> Answer:
        if not self.acts or not secrets.compare_digest((asked.token or "").encode(), self.token.encode()):
            return Answer(HTTPStatus.FORBIDDEN, "not asked by the page")
        actions = {"stop": self.stop, "promote": self.promote}
        if asked.path not in actions:
            return Answer(HTTPStatus.NOT_FOUND)
        try:
            said = actions[asked.path](json.loads(asked.body)["job"])
        except (NanolmError, OSError, ValueError, KeyError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
        return Answer(HTTPStatus.OK, json.dumps({"said": said}))

    def page(self) -> str:
        """The page itself, which asks for the rest."""
        body = tag("header", id="head") + tag("p", class_="mattered", hidden="")
        body += tag("div", id="jobs", class_="scroll") + tag("div", class_="charts")
        body += tag("h3", "Samples of the ticked jobs") + tag("div", class_="cards")
        return page("watch", "nanolm", Html(body), {"token": self.token, "acts": self.acts}, charts="plotly.js")

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
        script = Path(__file__).resolve().parents[2] / "train.py"
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            command = [sys.executable, str(script), f"resume={folder}"]
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        return f"{folder.name}: goes on; what it says is in {folder / 'log.txt'}"


class Handler(BaseHTTPRequestHandler):
    """Hands requests to `watch`."""

    watch: ClassVar[Watch]
    protocol_version = "HTTP/1.1"  # one connection for all that a page asks

    def do_GET(self) -> None:
        self.send(self.watch.answer(self.asked("GET", b"")))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LONGEST:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self.send(self.watch.answer(self.asked("POST", self.rfile.read(int(length)))))

    def asked(self, method: str, body: bytes) -> Request:
        """The request in the house's words."""
        head = self.headers
        host, origin, token = head.get("Host"), head.get("Origin"), head.get("X-Token")
        return Request(method, self.path.removeprefix("/"), host, origin, token, body)

    def send(self, answer: Answer) -> None:
        """Sends it."""
        data = answer.text.encode()
        self.send_response(answer.status)
        for key, value in (answer.headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
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
