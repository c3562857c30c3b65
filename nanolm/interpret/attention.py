"""What each head of a model looks at: weights of one text, figures that sum up a head, and a page to explore.

In: a generator and a text, given or written by it. Out: outputs/attention/<run>-<8 hex digits>/. The weights come from
the model's own attention code with its product written out. L layers, H heads, T tokens; weights[l, h, t, s] is the
share of token t's attention that goes to token s <= t.
"""

import base64
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from nanolm.decode.base import DecodeConfig
from nanolm.generator import Generator, pick_seed
from nanolm.model.transformer import Transformer
from nanolm.text import counted
from nanolm.web.html import Html, grid, tag
from nanolm.web.html import page as house_page

SHOWN = 256  # tokens: the page grows with their square, and nobody reads more
MEANING = (
    "distance: how many tokens back a token looks, on average. entropy: in bits; 0 is one token alone. "
    "previous, <BOS>: share of the attention on the token before and on the first."
)


def text_ids(
    generator: Generator, prompt: str, decode: DecodeConfig | None = None, seed: int | None = None
) -> list[int]:
    """The ids of the prompt from <BOS> on, with those that `decode` writes after them; at most the context."""
    context = generator.model.context
    [(_, ids)] = generator.encode_prompts([prompt], decode or DecodeConfig(max_new_tokens=1))
    if decode:
        ids = ids + [token for which, token in generator.stream_ids(decode, ids, pick_seed(seed)) if which == 0]
    return ids[:context]


@torch.inference_mode()
def attention_weights(model: Transformer, ids: Sequence[int]) -> np.ndarray:
    """float32 (L, H, T, T): where the model looks while it reads `ids`, at most its context. Rows sum to 1."""
    layers: list[torch.Tensor] = []
    model(torch.tensor([ids], device=model.device), attentions=layers)
    return torch.cat(layers).float().cpu().numpy()


def shape_of(layers: int, heads: int) -> str:
    """`6 layers of 4 heads`."""
    return f"{counted(layers, 'layer')} of {counted(heads, 'head')}"


def head_table(found: np.ndarray) -> pd.DataFrame:
    """Each head in figures, as text: means over all tokens but the first, which sees only itself. weights: T > 1."""
    layers, heads, size, _ = found.shape
    w = found.reshape(-1, size, size)[:, 1:]  # (L * H, T - 1, T)
    back = np.arange(1, size)[:, None] - np.arange(size)
    entropy = -(w * np.log2(np.where(w > 0, w, 1))).sum(-1)
    figures = {"distance": (w * back).sum(-1), "entropy": entropy, "previous": w.diagonal(0, 1, 2), "<BOS>": w[..., 0]}
    names = pd.MultiIndex.from_product([range(1, layers + 1), range(1, heads + 1)], names=["layer", "head"])
    rows = pd.DataFrame({name: figure.mean(-1) for name, figure in figures.items()}, names)
    return rows.map("{:.3f}".format).reset_index().astype(str)


def attention_page(tokens: Sequence[str], found: np.ndarray, title: str) -> str:
    """HTML: a token under the pointer or the focus shows what it attends to, by layer and head; weights (L, H, T, T).

    A weight is stored as round(255 * sqrt(weight)), a byte: exact to 0.4% at 1, to 0.01% near 0.
    """
    layers, heads, size, _ = found.shape
    stored = np.rint(255 * np.sqrt(found)).astype(np.uint8)[:, :, *np.tril_indices(size)].tobytes()
    data = {"tokens": list(tokens), "layers": layers, "heads": heads, "weights": base64.b64encode(stored).decode()}
    parts = [tag("h1", title), tag("p", f"{counted(size, 'token')}, {shape_of(layers, heads)}.", class_="quiet")]
    parts += [tag("div", id="view"), tag("h2", "The heads in figures"), tag("p", MEANING, class_="quiet")]
    parts.append(grid(list(head_table(found)), head_table(found).to_numpy()))
    return house_page("attention", title, Html("".join(parts)), data)
