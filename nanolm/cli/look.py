"""The verb behind look.py: what a model does inside while it reads a text, on one page.

In: the name of a run and a prompt. Out: outputs/looks/<run>-<8 hex digits>/index.html, with heads.csv and parts.csv.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nanolm.config import between
from nanolm.corpus.corpus import Encoded, encode_corpus
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError, NanolmError, RunError
from nanolm.files import fingerprint, make_folder, write_atomic
from nanolm.generator import Generator
from nanolm.interpret import page
from nanolm.interpret.ablation import ablations
from nanolm.interpret.attention import text_ids
from nanolm.interpret.attribution import logit_attribution
from nanolm.interpret.embeddings import nearest, principal_map
from nanolm.interpret.heads import head_scores
from nanolm.interpret.lens import logit_lens
from nanolm.runs.load import Loaded, load_for_scoring
from nanolm.tokenizer.base import SPECIALS
from nanolm.web.html import Html

SHOWN = 64  # tokens of the lens
WORDS = 300  # on the map


def look(
    run: str,
    prompt: str | None,
    decode: DecodeConfig | None = None,
    seed: int | None = None,
    documents: int = 20,
    outputs: str | Path = "outputs",
    device: str = "auto",
) -> Path:
    """Writes the page for the prompt, or with `decode` for what follows it; returns its folder.

    documents: of val, on which each part is switched off; 0: none. Raises NanolmError.
    """
    between("documents", documents, 0)
    loaded = load_for_scoring(run, outputs, device)
    if loaded.weights == "int8":
        raise RunError(f"{loaded.run.folder}: its weights are int8, which has no parts to look at; take the run itself")
    place = loaded.run.folder.resolve()
    ids = text_ids(Generator(loaded.model, loaded.tokenizer, place), prompt or "", decode, seed)[:SHOWN]
    if len(ids) < 2:
        raise ConfigError('prompt: must be given, as prompt="the army"; or add decode=sample, which writes a text')
    heads = head_scores(loaded.model)
    sections = [lens_of(loaded, ids), shares_of(loaded, ids)]
    folder = make_folder(Path(outputs, "looks", f"{place.name}-{fingerprint([str(place), ids])[:8]}"))
    if documents:
        sections += without_parts(loaded, Path(outputs, "cache"), documents, folder)
    sections += [page.heads_section(heads), words_of(loaded, ids)]
    about = f"{place.name}: {loaded.model.config.nblocks} layers of {loaded.model.config.heads} heads."
    write_atomic(folder / "heads.csv", heads.to_csv(index=False))
    write_atomic(folder / "index.html", page.look_page("Inside", about, sections))
    print(heads.round(3).to_string(index=False))
    print(f"written to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    return folder


def shown(loaded: Loaded, ids: Any) -> list[str]:
    """The tokens as a page shows them."""
    return [page.shown_token(loaded.tokenizer.decode_token(token)) for token in ids]


def lens_of(loaded: Loaded, ids: list[int]) -> Html:
    """The logit lens over the text."""
    lens = logit_lens(loaded.model, ids)
    return page.lens_section(lens, shown(loaded, ids), [shown(loaded, row) for row in lens.likeliest.tolist()])


def shares_of(loaded: Loaded, ids: list[int]) -> Html:
    """The shares of the logit of the text's last token; nothing where they are not defined, with a word."""
    try:
        shares = logit_attribution(loaded.model, ids[:-1], ids[-1])
    except ConfigError as error:
        print(f"no shares of a logit: {error}", file=sys.stderr)
        return Html("")
    return page.shares_section(shares, shown(loaded, ids[-1:])[0])


def without_parts(loaded: Loaded, cache: Path, documents: int, folder: Path) -> list[Html]:
    """The ablations over the first val documents, also as parts.csv; nothing where the data is gone, with a word."""
    try:
        corpus = loaded.run.corpus(cache)
        encoded = encode_corpus(corpus, loaded.tokenizer, cache)["val"]
    except NanolmError as error:
        print(f"no ablations: {error}", file=sys.stderr)
        return []
    count = min(documents, len(encoded))
    if not count:
        print("no ablations: the run's data has no val documents", file=sys.stderr)
        return []
    some = Encoded(np.array(encoded.ids[: encoded.offsets[count]]), np.array(encoded.offsets[: count + 1]))
    whole, found = ablations(loaded.model, some, corpus.nbytes("val")[:count])
    table = pd.DataFrame({"part": map(str, (one.part for one in found))})
    table["zeroed"], table["mean_ablated"] = [one.zeroed for one in found], [one.averaged for one in found]
    write_atomic(folder / "parts.csv", table.to_csv(index=False))
    return [page.ablation_section(whole, found, count)]


def words_of(loaded: Loaded, ids: list[int]) -> Html:
    """The neighbours of the text's words, and the map of the most frequent ones, which have the lowest ids."""
    model, first = loaded.model, len(SPECIALS)
    neighbours = {}
    for token in dict.fromkeys(token for token in ids if token >= first):
        near = zip(shown(loaded, [i for i, _ in nearest(model, token)]), nearest(model, token), strict=True)
        neighbours[shown(loaded, [token])[0]] = ", ".join(f"{word} {cosine:.2f}" for word, (_, cosine) in near)
    frequent = range(first, min(first + WORDS, model.vocab_size))
    points, share = principal_map(model, frequent)
    return page.words_section(neighbours, points, shown(loaded, frequent), share)
