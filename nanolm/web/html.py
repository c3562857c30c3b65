"""Every HTML page: one file that needs no network and no other file, light or dark as the reader's screen is.

In: a template's name, elements, plain data. Out: HTML. `<name>.css` and `.js` of this folder follow the house.css;
text is escaped unless it is `Html`. Knows nothing of what is shown.
"""

import base64
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template
from typing import Any


class Html(str):
    """Text that is HTML already."""


def tag(name: str, *children: str, **attributes: Any) -> Html:
    """An element; children are escaped unless Html. Attributes: `class_` is class, `data_v` is data-v."""
    given = {key.rstrip("_").replace("_", "-"): escape(str(value)) for key, value in attributes.items()}
    head = "".join(f' {key}="{value}"' for key, value in given.items())
    inside = "".join(child if isinstance(child, Html) else escape(child) for child in children)
    return Html(f"<{name}{head}>" if name == "img" else f"<{name}{head}>{inside}</{name}>")


def png(data: bytes, alt: str) -> Html:
    """A picture, within the page."""
    return tag("img", src=f"data:image/png;base64,{base64.b64encode(data).decode()}", alt=alt)


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> Html:
    """A table of texts, which scrolls within itself where it is too wide; `kind` is its class."""
    head = tag("tr", *(tag("th", text) for text in heads))
    lines = [tag("tr", *(tag("td", text) for text in row)) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines), class_=kind), class_="scroll")


def page(name: str, title: str, body: Html, data: Any, charts: bool | str = False, model: bool = False) -> str:
    """The page `name`; its script finds `data` as JSON in the element #data. charts: with Plotly and its use.

    A text: the address of Plotly on a server, which the page may then ask for more. model: with `tokens.js`; the page
    may load a model, and WebAssembly to run it, from where it comes from itself.
    """
    kept = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no text can end the element
    parts = {"title": escape(title), "body": body, "data": kept, "library": "", "allowed": ""}
    parts |= {"style": resource("house.css") + resource(f"{name}.css"), "script": resource(f"{name}.js"), "asks": ""}
    if charts:
        parts["library"] = f"<script>{plotly()}</script>\n"
        parts["style"] = resource("house.css") + resource("charts.css") + resource(f"{name}.css")
        parts["script"] = resource("axes.js") + resource("charts.js") + parts["script"]
        parts["allowed"] = " 'unsafe-eval'"  # Plotly makes the shaders of parallel coordinates so; no text gets there
    if isinstance(charts, str):
        parts["library"] = tag("script", src=charts)
        parts["allowed"] += " 'self'"
        parts["asks"] = " connect-src 'self';"
    if model:
        parts["script"] = resource("tokens.js") + parts["script"]
        parts["allowed"] = " 'self' 'wasm-unsafe-eval'"
        parts["asks"] = " connect-src 'self';"
    return Template(resource("house.html")).substitute(parts)


def plotly() -> str:
    """The whole of Plotly's library for browsers, from the installed package."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def resource(name: str) -> str:
    """The text of a file in this folder."""
    return (files("nanolm.web") / name).read_text("utf-8")


def frame(html: str, title: str) -> Html:
    """A whole page within another: in a sandbox, where its script can't reach what is around it."""
    return tag("iframe", srcdoc=html, sandbox="allow-scripts", title=title)
