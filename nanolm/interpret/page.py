"""One page of all looks into a model: the lens, the shares of a logit, the ablations, the heads, the words.

In: what the other files of this folder have found, and the text of tokens. Out: HTML that needs no other file. Computes
nothing.
"""

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from nanolm.interpret.ablation import Ablation
from nanolm.interpret.lens import Lens
from nanolm.text import escape_controls
from nanolm.web.html import Html, grid, page, tag

LENS = (
    "What the model would say if it ended after each layer, by its last norm and output layer. "
    "The darker, the likelier the true next token; its rank: point at it."
)
TUNED = (
    "The same, but each layer is first brought to the mean and the spread that the last norm is used to, dimension by "
    "dimension, as measured on the val documents. The last layer is the output in both."
)
OVER_STEPS = "The strongest heads by name, the others grey; beside them the loss. The figures: heads_over_steps.csv."
HEADS = (
    "On random tokens, or with repeat=text on the text, written twice: the share of attention on the token before, on "
    "the same token the first time, and on what followed it then (induction)."
)
ABLATED = "Bits per byte more when a part gives nothing (zeroed), or always its mean; the spelling of <UNK> left out."
SHARES = "What each part adds to the logit of the next token; together they are the logit."
NEAR = "The tokens of the text, and those whose embeddings are nearest."
MAP = "The most frequent tokens, {about}."


def shown_token(token: str) -> str:
    """A token as a cell shows it: ends of lines and lone spaces as signs."""
    token = escape_controls(token.replace("\n", "↵").replace("\t", "⇥"))
    return token if token.strip() else token.replace(" ", "␣")


def section(title: str, about: str, *parts: Html) -> Html:
    """A heading, what is shown, and it."""
    return Html(tag("h2", title) + tag("p", about, class_="quiet") + "".join(parts))


def shade(share: float) -> str:
    """The style of a cell whose colour is as strong as `share`, 0 to 1; below 0 in the other colour."""
    return f"--s:{min(1.0, abs(share)):.3f};--hue:var(--{'accent' if share >= 0 else 'mark'})"


def lens_section(title: str, about: str, lens: Lens, tokens: Sequence[str], likeliest: Sequence[Sequence[str]]) -> Html:
    """A row for each layer, the output first; likeliest: the token of each cell as text."""
    names = ["before", *(f"layer {number}" for number in range(1, len(lens.ranks)))]
    head = tag("tr", tag("th", "after"), *(tag("th", token) for token in tokens[:-1]))
    true = tag("tr", tag("th", "true next"), *(tag("td", token) for token in tokens[1:]))
    rows = [head, true]
    for layer in reversed(range(len(names))):
        cells = [tag("th", names[layer])]
        for place, word in enumerate(likeliest[layer]):
            share, rank = float(lens.probabilities[layer, place]), int(lens.ranks[layer, place])
            cells.append(tag("td", word, style=shade(share**0.5), title=f"true next: {share:.1%}, rank {rank:,}"))
        rows.append(tag("tr", *cells))
    return section(title, about, tag("div", tag("table", *rows, class_="map"), class_="scroll"))


def shares_section(shares: dict[str, float], token: str) -> Html:
    """The shares of a logit, as bars."""
    largest = max(map(abs, shares.values()), default=1.0) or 1.0
    rows = []
    for name, share in [*shares.items(), ("the logit", sum(shares.values()))]:
        bar = tag("i", "", style=f"width:{min(100, 100 * abs(share) / largest):.1f}%;{shade(share)}")
        rows.append(tag("tr", tag("th", name), tag("td", f"{share:+.3f}"), tag("td", bar, class_="bar")))
    table = tag("div", tag("table", *rows), class_="scroll")
    return section(f"Why “{token}” next", SHARES, table)


def ablation_section(whole: float, found: Sequence[Ablation], documents: int) -> Html:
    """The change of each part, as a table coloured by the zeroed one."""
    largest = max((abs(one.zeroed) for one in found), default=1.0) or 1.0
    rows = [tag("tr", *(tag("th", head) for head in ("part", "zeroed", "mean-ablated")))]
    for one in found:
        values = [tag("td", f"{x:+.4f}", style=shade(x / largest)) for x in (one.zeroed, one.averaged)]
        rows.append(tag("tr", tag("th", str(one.part)), *values))
    about = f"{ABLATED} Over {documents} val documents, {whole:.4f} with all parts."
    return section("Without a part", about, tag("div", tag("table", *rows, class_="map"), class_="scroll"))


def heads_section(scores: pd.DataFrame) -> Html:
    """The scores of each head."""
    rows = [tag("tr", *(tag("th", name) for name in scores.columns))]
    for layer, head, *values in scores.itertuples(index=False):
        cells = [tag("td", f"{value:.2f}", style=shade(value)) for value in values]
        rows.append(tag("tr", tag("th", str(layer)), tag("th", str(head)), *cells))
    return section("What heads are for", HEADS, tag("div", tag("table", *rows, class_="map"), class_="scroll"))


def neighbours_section(neighbours: dict[str, str]) -> Html:
    """The nearest words of the text's words."""
    return section("Words", NEAR, grid(["word", "nearest, with the cosine"], neighbours.items(), "words"))


def map_section(kind: str, points: Tensor, words: Sequence[str], about: str) -> Html:
    """A dot for each word, named under the pointer."""
    low, high = points.amin(0), points.amax(0)
    places = ((points - low) / (high - low).clamp_min(1e-9) * 960 + 20).tolist()
    dots = []
    for number, ((x, y), word) in enumerate(zip(places, words, strict=True)):
        label = tag("text", word, x=f"{x + 6:.0f}", y=f"{y + 4:.0f}") if number < 60 else ""
        dots.append(tag("g", tag("circle", tag("title", word), cx=f"{x:.0f}", cy=f"{y:.0f}", r="4"), Html(label)))
    drawing = tag("svg", *dots, viewBox="0 0 1080 1000", role="img", aria_label="map of words")
    return section(f"Map of words: {kind}", MAP.format(about=about), drawing)


def look_page(title: str, about: str, sections: Sequence[Html]) -> str:
    """The whole page."""
    return page("look", title, Html(tag("h1", title) + tag("p", about, class_="quiet") + "".join(sections)), {})
