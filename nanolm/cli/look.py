"""The verb behind look.py: what a model does inside while it reads a text, on one page.

In: the name of a run and a prompt. Out: outputs/looks/<run>-<8 hex digits>/index.html, with heads.csv and parts.csv; of
a run that has kept checkpoints heads_over_steps.csv and .png.
"""

import sys
from pathlib import Path

import pandas as pd

from nanolm.config import between, one_of
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError, NanolmError, RunError
from nanolm.files import fingerprint, make_folder, naming, write_atomic
from nanolm.generator import Generator
from nanolm.interpret import page
from nanolm.interpret.attention import shape_of, text_ids
from nanolm.interpret.embeddings import MAPS
from nanolm.interpret.heads import head_scores
from nanolm.interpret.inside import SHOWN, Inside, ValSample, draw_heads, heads_over_steps, val_sample, without_parts
from nanolm.model.transformer import Transformer
from nanolm.runs.load import Loaded, load_for_scoring
from nanolm.web.html import Html


def look(
    run: str,
    prompt: str | None,
    decode: DecodeConfig | None = None,
    seed: int | None = None,
    documents: int = 20,
    map: str = "pca",  # noqa: A002 (the name of a knob)
    repeat: str = "random",
    outputs: str | Path = "outputs",
    device: str = "auto",
) -> Path:
    """Writes the page for the prompt, or with `decode` for what follows it; returns its folder.

    documents: of val, on which each part is switched off; 0: none. map: of the words, beside that of their principal
    components. repeat: what is written twice for the heads' scores, random tokens or the text. Raises NanolmError.
    """
    between("documents", documents, 0)
    one_of("map", map, list(MAPS))
    one_of("repeat", repeat, ("random", "text"))
    loaded = load_for_scoring(run, outputs, device)
    if loaded.weights == "int8":
        raise RunError(f"{loaded.run.folder}: its weights are int8, which has no parts to look at; take the run itself")
    place = loaded.run.folder.resolve()
    text = text_ids(Generator(loaded.model, loaded.tokenizer, place), prompt or "", decode, seed)
    ids, twice = text[:SHOWN], text[1:] if repeat == "text" else []
    if len(ids) < 2:
        raise ConfigError('prompt: must be given, as prompt="the army"; or add decode=sample, which writes a text')
    inside = Inside(loaded.model, loaded.tokenizer, ids)
    words = inside.words(list(dict.fromkeys(["pca", map])))
    heads, sample = head_scores(loaded.model, twice), sample_of(loaded, Path(outputs, "cache"), documents)
    folder = make_folder(Path(outputs, "looks", f"{place.name}-{fingerprint([str(place), ids])[:8]}"))
    sections = [*inside.lenses(sample), *inside.shares()]
    if sample:
        section, table = without_parts(loaded.model, sample)
        write_atomic(folder / "parts.csv", table.to_csv(index=False))
        sections.append(section)
    sections += [page.heads_section(heads)]
    if loaded.run.kept():
        sections.append(over_steps(loaded, folder, twice))
    about = f"{place.name}: {shape_of(loaded.model.config.nblocks, loaded.model.config.heads)}."
    write_atomic(folder / "heads.csv", heads.to_csv(index=False))
    write_atomic(folder / "index.html", page.look_page("Inside", about, [*sections, *words]))
    print(heads.round(3).to_string(index=False))
    print(f"written to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    return folder


def sample_of(loaded: Loaded, cache: Path, documents: int) -> ValSample | None:
    """The val documents to measure on; None where none are asked for or, with a word, the data has gone."""
    try:
        return val_sample(loaded.run, loaded.tokenizer, cache, documents) if documents else None
    except NanolmError as error:
        print(f"no ablations, and no lens tuned by norm: {error}", file=sys.stderr)
        return None


def over_steps(loaded: Loaded, folder: Path, twice: list[int]) -> Html:
    """heads_over_steps.csv and .png: what each head did at each checkpoint; their section."""

    def load(which: str) -> Transformer:
        return load_for_scoring(loaded.run.folder, device=str(loaded.device), which=which).model

    scores = heads_over_steps(loaded.run, load, twice)
    write_atomic(folder / "heads_over_steps.csv", scores.to_csv(index=False))
    path = loaded.run.folder / "metrics.csv"
    with naming(path, "read"):
        metrics = pd.read_csv(path)
    return draw_heads(folder / "heads_over_steps.png", f"Heads of {loaded.run.folder.resolve().name}", scores, metrics)
