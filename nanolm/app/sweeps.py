"""The tab Sweeps: the live page of compare.py's watch=true over a sweep that is chosen here.

In: the folder of outputs. Out: the tab, and a route for the page's server. Its address holds the page's token: only who
was shown the tab knows it, so a password on the app is one on the page.
"""

from http import HTTPStatus
from pathlib import Path

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nanolm.app.models import errors_as_messages
from nanolm.comparing import page_server
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.page_server import Answer, Watch
from nanolm.comparing.record import sweeps
from nanolm.errors import RunError
from nanolm.web.html import tag

EVERY = "all runs"  # instead of those of one sweep


class LivePages:
    """The live pages by the names of what they watch, each made when it is first asked for.

    loopback: the app answers this machine alone. acts: whether the buttons that stop and promote do anything.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.loopback = self.acts = True
        self._watched: dict[str, Watch] = {}

    def names(self) -> list[str]:
        """The sweeps that there are, the newest first, and EVERY."""
        found = [note.parent.relative_to(self.outputs).as_posix() for note in reversed(sweeps(self.outputs))]
        return [*found, EVERY]

    def frame(self, name: str | None) -> str:
        """The page of a sweep, or of the newest, in a frame; RunError for a name that there is none of."""
        names = self.names()
        if (name or names[0]) not in names:
            raise RunError(f"sweep={str(name)[:80]}: no such sweep here")
        name = name or names[0]
        if name not in self._watched:
            sweep = None if name == EVERY else str(self.outputs / name)
            config = CompareConfig(sweep=sweep, outputs=str(self.outputs))
            self._watched[name] = Watch(config, self.loopback, self.acts)
        return tag("iframe", src=f"live/{self._watched[name].token}/", title=name)

    def route(self) -> Route:
        """Where the pages are served."""
        return Route("/live/{token}/{path:path}", self.answer, methods=["GET", "POST"])

    async def answer(self, asked: Request) -> Response:
        """Hands a request to the page whose token the address holds."""
        found = {watch.token: watch for watch in self._watched.values()}.get(asked.path_params["token"])
        answer = Answer(HTTPStatus.NOT_FOUND)
        if found:
            head, where = asked.headers, asked.path_params["path"] + f"?{asked.url.query}".rstrip("?")
            known = head.get("content-length", "")
            body = await asked.body() if known.isdecimal() and int(known) <= page_server.LONGEST else b""
            names = head.get("host"), head.get("origin"), head.get("x-token")
            answer = await run_in_threadpool(found.answer, page_server.Request(asked.method, where, *names, body))
        return Response(answer.text, answer.status, answer.headers)


def sweeps_tab(pages: LivePages, here: gr.Tab) -> None:
    """Lays the tab out: the newest sweep first."""
    picker = gr.Dropdown([], label="Sweep")
    output = gr.HTML(elem_classes="live")

    def show(name: str | None) -> tuple[gr.Dropdown, str]:
        with errors_as_messages():
            names = pages.names()
            return gr.Dropdown(names, value=name or names[0]), pages.frame(name)

    here.select(show, picker, [picker, output], show_progress="hidden")
    picker.input(show, picker, [picker, output], show_progress="hidden")
