"""All looks into one model while it reads a text, as sections of a page; and what came when, over the checkpoints.

In: a run's model and tokenizer, the ids of a text. Out: HTML, tables, a picture. What can't be told is left out, with
a word to `tell`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pandas as pd

from nanolm import plots
from nanolm.corpus.corpus import Encoded, encode_corpus
from nanolm.errors import ConfigError, NanolmError
from nanolm.generator import say
from nanolm.interpret import page
from nanolm.interpret.ablation import Ablation, ablations
from nanolm.interpret.attribution import logit_attribution
from nanolm.interpret.embeddings import MAPS, nearest
from nanolm.interpret.heads import SCORES, head_scores
from nanolm.interpret.lens import StreamScale, logit_lens, stream_scale
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.tokenizer.base import SPECIALS, Tokenizer
from nanolm.web.html import Html, png

SHOWN = 64  # tokens of the lens
WORDS = 300  # on the map


@dataclass
class ValSample:
    """The first val documents of a run, as ids, and their bytes."""

    encoded: Encoded
    nbytes: np.ndarray

    @property
    def texts(self) -> list[list[int]]:
        """The ids of each document."""
        bounds = zip(self.encoded.offsets[:-1], self.encoded.offsets[1:], strict=True)
        return [self.encoded.ids[start:end].tolist() for start, end in bounds]


def val_sample(run: Run, tokenizer: Tokenizer, cache: Path, documents: int) -> ValSample:
    """The first so many val documents of the run's data; NanolmError where it has gone or has none."""
    corpus = run.corpus(cache)
    encoded = encode_corpus(corpus, tokenizer, cache)["val"]
    count = min(documents, len(encoded))
    if not count:
        raise NanolmError("the run's data has no val documents")
    some = Encoded(np.array(encoded.ids[: encoded.offsets[count]]), np.array(encoded.offsets[: count + 1]))
    return ValSample(some, corpus.nbytes("val")[:count])


class Inside:
    """One model and one text of at least two tokens."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, ids: Sequence[int], tell: Callable[[str], None] = say
    ) -> None:
        self.model, self.tokenizer, self.ids, self.tell = model, tokenizer, list(ids)[:SHOWN], tell

    def shown(self, ids: Iterable[Any]) -> list[str]:
        """The tokens as a page shows them."""
        return [page.shown_token(self.tokenizer.decode_token(token)) for token in ids]

    def lenses(self, sample: Optional[ValSample]) -> list[Html]:
        """The plain lens, and where there is a sample the one tuned by it."""
        sections = [self._lens("Layer by layer: the plain lens", page.LENS, None)]
        if sample:
            scale = stream_scale(self.model, sample.texts)
            sections.append(self._lens("Layer by layer: the lens tuned by norm", page.TUNED, scale))
        return sections

    def _lens(self, title: str, about: str, scale: Optional[StreamScale]) -> Html:
        lens = logit_lens(self.model, self.ids, scale)
        likeliest = [self.shown(row) for row in lens.likeliest.tolist()]
        return page.lens_section(title, about, lens, self.shown(self.ids), likeliest)

    def shares(self) -> list[Html]:
        """The shares of the logit of the text's last token."""
        try:
            found = logit_attribution(self.model, self.ids[:-1], self.ids[-1])
        except ConfigError as error:
            self.tell(f"no shares of a logit: {error}")
            return []
        return [page.shares_section(found, self.shown(self.ids[-1:])[0])]

    def words(self, maps: Sequence[str] = ("pca",)) -> list[Html]:
        """The neighbours of the text's words, and maps of the most frequent ones, which have the lowest ids."""
        first, neighbours = len(SPECIALS), {}
        for token in dict.fromkeys(token for token in self.ids if token >= first):
            found = nearest(self.model, token)
            near = zip(self.shown(i for i, _ in found), found, strict=True)
            neighbours[self.shown([token])[0]] = ", ".join(f"{word} {cosine:.2f}" for word, (_, cosine) in near)
        frequent = range(first, min(first + WORDS, self.model.vocab_size))
        sections = [page.neighbours_section(neighbours)]
        for kind in maps:
            points, about = MAPS[kind](self.model, frequent)
            sections.append(page.map_section(kind.upper(), points, self.shown(frequent), about))
        return sections


def without_parts(model: Transformer, sample: ValSample) -> tuple[Html, pd.DataFrame]:
    """The ablations over the sample: their section, and a row for each part: part, zeroed, mean_ablated."""
    whole, found = ablations(model, sample.encoded, sample.nbytes)
    return page.ablation_section(whole, found, len(sample.encoded)), ablation_table(found)


def ablation_table(found: Sequence[Ablation]) -> pd.DataFrame:
    """A row for each part."""
    table = pd.DataFrame({"part": [str(one.part) for one in found]})
    table["zeroed"], table["mean_ablated"] = [one.zeroed for one in found], [one.averaged for one in found]
    return table


def heads_over_steps(run: Run, load: Callable[[str], Transformer], text: Sequence[int] = ()) -> pd.DataFrame:
    """The scores of each head at each checkpoint that the run has kept: step, layer, head, and SCORES.

    load: gives the model of `step-500`. text: as of head_scores.
    """
    found = [head_scores(load(path.stem), text).assign(step=step) for step, path in run.kept().items()]
    return pd.concat(found)[["step", "layer", "head", *SCORES]]


def draw_heads(path: Path, title: str, scores: pd.DataFrame, metrics: pd.DataFrame) -> Html:
    """Writes the curves of all heads, and of the loss beside them, as a picture; the section that shows it."""
    groups: dict[str, dict[str, plots.Line]] = {}
    for kind in SCORES:
        table = scores.pivot(index="step", columns=["layer", "head"], values=kind)
        strongest = table.iloc[-1].sort_values(ascending=False).index
        groups[kind] = {f"layer {a} head {b}": (table.index.to_numpy(), table[a, b].to_numpy()) for a, b in strongest}
    losses = {}
    for name in ("train_loss", "val_loss"):
        known = metrics[["step", name]].dropna()
        losses[name.removesuffix("_loss")] = (known["step"].to_numpy(), known[name].to_numpy())
    plots.panels(path, title, "step", groups | {"loss (nats per token)": losses}, SCORES, named=3)
    return page.section("When heads formed", page.OVER_STEPS, png(path.read_bytes(), "scores of heads over the steps"))
