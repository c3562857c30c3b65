"""The verb behind attend.py: what each head of a model looks at, as pictures, a table and a page.

In: the name of a run and a prompt. Out: outputs/attention/<run>-<8 hex digits>/.
"""

from pathlib import Path

from nanolm import plots
from nanolm.config import between
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError
from nanolm.files import fingerprint, make_folder, write_atomic
from nanolm.generator import load
from nanolm.interpret.attention import MEANING, SHOWN, attention_page, attention_weights, head_table, text_ids


def attend(
    run: str,
    prompt: str | None,
    decode: DecodeConfig | None = None,
    seed: int | None = None,
    layer: int = 1,
    head: int = 1,
    outputs: str | Path = "outputs",
    device: str = "auto",
) -> Path:
    """Writes pictures, CSV and page for the prompt, or with `decode` for what follows it; returns their folder.

    layer, head: of the large picture, from 1. Raises NanolmError.
    """
    generator = load(run, outputs, device=device, precision="fp32")
    model, place = generator.model, Path(str(generator.run)).resolve()
    between("layer", layer, 1, model.config.nblocks)
    between("head", head, 1, model.config.heads)
    ids = text_ids(generator, prompt or "", decode, seed)
    if len(ids) < 2:
        raise ConfigError('prompt: must be given, as prompt="the army"; or add decode=sample, which writes a text')
    if len(ids) > SHOWN:
        generator.tell(f"text of {len(ids)} tokens: only the first {SHOWN} are shown")
    tokens, found = [generator.tokenizer.decode_token(i) for i in ids[:SHOWN]], attention_weights(model, ids[:SHOWN])
    folder = make_folder(Path(outputs, "attention", f"{place.name}-{fingerprint([str(place), ids])[:8]}"))
    plots.attention_grid(folder / "heads.png", found)
    one = folder / f"layer{layer}-head{head}.png"
    plots.attention_map(one, found[layer - 1, head - 1], tokens, f"layer {layer}, head {head}")
    write_atomic(folder / "heads.csv", head_table(found).to_csv(index=False))
    write_atomic(folder / "index.html", attention_page(tokens, found, f"Attention of {place.name}"))
    print(head_table(found).to_string(index=False))
    print(f"{MEANING}\nwritten to {folder}: index.html, heads.png, {one.name}, heads.csv")
    return folder
