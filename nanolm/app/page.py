"""The page of five tabs over the runs of a folder, and the server that shows it.

In: the folder of runs, the run to begin with. Out: Gradio's Blocks, served. Nothing on the page comes from elsewhere:
no fonts, no statistics, no look for newer versions.
"""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any, Optional

import gradio as gr

from nanolm.app import look, runs, sweeps, tokens, write
from nanolm.app.api import endpoints
from nanolm.app.models import Models, errors_as_messages
from nanolm.errors import ConfigError
from nanolm.web.guard import is_loopback
from nanolm.web.html import tag

WAITING = 32  # requests in the queue; more are told that it is full
OFF = ("share", "ssr_mode", "pwa", "mcp_server", "run_history", "enable_monitoring")  # what else Gradio would bring
LIMITS: dict[str, Any] = {  # sessions whose last texts are kept; bytes of an upload (there are none) and of a request
    "state_session_capacity": 1000,
    "max_file_size": 1,
    "app_kwargs": {"max_body_size": 2**20},
}
FONTS: dict[str, Any] = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}


def build_app(
    outputs: Path, run: str = "latest", device: str = "auto", precision: str = "fp32"
) -> tuple[gr.Blocks, sweeps.LivePages]:
    """The page over the runs under `outputs`, beginning with `run`: latest, best, or a folder. RunError if none."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    models = Models(outputs, run, device, precision)
    pages = sweeps.LivePages(models.outputs)

    def head(name: str) -> str:
        with errors_as_messages():
            about = tag("small", models.about(name))
            return tag("div", tag("b", "nanolm"), tag("span", name), about, class_="nanolm head")

    with gr.Blocks(title="nanolm", analytics_enabled=False) as blocks:
        header = gr.HTML(head(models.first))
        picker = gr.Dropdown(models.choices(), value=models.first, label="Model: the run that writes", render=False)
        with gr.Tab("Write"):
            written = write.write_tab(models, picker)
        with gr.Tab("Look inside") as here:
            look.look_tab(models, picker, written, here)
        with gr.Tab("Tokens") as here:
            tokens.tokens_tab(models, picker, here)
        with gr.Tab("Runs") as here:
            runs.runs_tab(models, picker, here)
        with gr.Tab("Sweeps") as here:
            sweeps.sweeps_tab(pages, here)
        picker.input(head, picker, header, concurrency_id="model")
        blocks.load(lambda: gr.Dropdown(models.choices()), None, picker)
        for function in blocks.fns.values():  # the page's own events; programs have endpoints of their own
            function.api_visibility = "private"
        endpoints(models)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1), pages


def serve(
    blocks: gr.Blocks,
    pages: sweeps.LivePages,
    host: str = "127.0.0.1",
    port: Optional[int] = None,
    browser: bool = False,
    auth: Optional[str] = None,
) -> None:
    """Shows the page until ctrl-c, on the first free port from 7860 where none is given. ConfigError if it can't.

    auth: user:password, which everybody has to give, programs too; None or open: nobody has. Where it is open, nobody
    can stop or promote a job.
    """
    pages.loopback, pages.acts = is_loopback(host) and auth is None, auth != "open"
    how: dict[str, Any] = {"server_name": host, "server_port": port, "inbrowser": browser, **LIMITS}
    how["app_kwargs"] = {**LIMITS["app_kwargs"], "routes": [pages.route()]}
    if auth not in (None, "open"):
        user, _, password = str(auth).partition(":")
        how["auth"] = (user, password)
    how |= {"theme": gr.themes.Default(primary_hue="blue", **FONTS), "css_paths": files("nanolm.web") / "app.css"}
    try:
        blocks.launch(quiet=True, prevent_thread_lock=True, footer_links=["api"], **dict.fromkeys(OFF, False), **how)
    except OSError as error:
        raise ConfigError(f"host={host} port={port}: can't listen there ({error}); give another") from error
    print(f"nanolm: {blocks.local_url} (ctrl-c ends)", flush=True)
    blocks.block_thread()
