"""A graph that onnxruntime runs, in Python, in a web page, on a phone. Needs the extra `onnx`.

In: a run of a stock architecture. Out: model.onnx (fp32, its cache as flat tensors), tokenizer.json and config.json.
The graph is made from a plain transformer of its own: ours writes into its cache in place, which a graph can't.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanolm.export.hf import BLOCK, hf_config, hf_weights
from nanolm.files import make_folder, replace, write_json
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.web.html import resource

EXAMPLE = (3, 2, 5)  # rows, tokens, tokens before: of each several, else the graph would take the number for fixed


def write_onnx(run: Run, folder: Path) -> None:
    """model.onnx: `ids` (B, T) and the keys and values (B, key heads, P, head dims) of P tokens before -> the logits
    (B, V) of what follows, and the keys and values of all P + T. All rows are of one length."""
    import onnxscript  # noqa: F401 (its absence is said here, not in the middle of torch)

    model = run.trained()
    config = hf_config(model) | json.loads(resource("hub/hf.json"))["config.json"]
    make_folder(folder)
    aside = folder / "model.onnx.part"
    try:
        export_graph(StepWithCache(model, config), aside)
        replace(aside, folder / "model.onnx")
    finally:
        aside.unlink(missing_ok=True)
    write_json(folder / "config.json", config)
    shutil.copy(run.file("tokenizer.json"), folder)


class StepWithCache(nn.Module):
    """The model as a function of ids and cache alone."""

    def __init__(self, model: Transformer, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): tensor.float() for name, tensor in hf_weights(model).items()}
        )
        half = config["head_dim"] // 2
        powers = -torch.arange(half, dtype=torch.float64) / half
        angles = (
            torch.arange(model.context, dtype=torch.float64)[:, None]
            * config["rope_parameters"]["rope_theta"] ** powers
        )
        self.register_buffer("cosines", angles.cos().float().repeat(1, 2))  # (context, head dims)
        self.register_buffer("sines", angles.sin().float().repeat(1, 2))

    def weight(self, name: str) -> Tensor:
        found: Tensor = self.weights[f"{name}.weight".replace(".", "/")]
        return found

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight(name), self.config["rms_norm_eps"])

    def forward(self, ids: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """past: keys and values of each layer in turn."""
        before, length = past[0].shape[2], ids.shape[1]
        places = torch.arange(length, device=ids.device) + before
        seen = torch.arange(before + length, device=ids.device) <= places[:, None]  # (T, P + T)
        turn = self.cosines[places], self.sines[places]
        x, present = F.embedding(ids, self.weight("model.embed_tokens")), list[Tensor]()
        for layer in range(self.config["num_hidden_layers"]):
            block = BLOCK.format(layer)
            mixed, *cached = self.attend(self.norm(x, f"{block}.input_layernorm"), block, turn, seen, past[2 * layer :])
            x, present = x + mixed, [*present, *cached]
            y = self.norm(x, f"{block}.post_attention_layernorm")
            gate, up = (F.linear(y, self.weight(f"{block}.mlp.{part}_proj")) for part in ("gate", "up"))
            x = x + F.linear(F.silu(gate) * up, self.weight(f"{block}.mlp.down_proj"))
        output = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return F.linear(self.norm(x[:, -1], "model.norm"), self.weight(output)), present

    def attend(
        self, x: Tensor, block: str, turn: tuple[Tensor, Tensor], seen: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What attention adds to x (B, T, dims); all keys and values (B, key heads, P + T, head dims)."""
        sizes = (*x.shape[:2], -1, self.config["head_dim"])
        q, k, v = (
            F.linear(x, self.weight(f"{block}.self_attn.{part}_proj")).view(sizes).transpose(1, 2) for part in "qkv"
        )
        if self.config["model_type"] == "qwen3":
            q, k = (self.norm(part, f"{block}.self_attn.{name}_norm") for part, name in ((q, "q"), (k, "k")))
        keys = torch.cat([past[0], rotated(k, *turn)], 2)
        values = torch.cat([past[1], v], 2)
        groups = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        all_keys, all_values = (part.repeat_interleave(groups, 1) for part in (keys, values))
        mixed = F.scaled_dot_product_attention(rotated(q, *turn), all_keys, all_values, attn_mask=seen)
        return F.linear(mixed.transpose(1, 2).flatten(2), self.weight(f"{block}.self_attn.o_proj")), keys, values


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions: each half of x (..., T, head dims) turned against the other."""
    one, two = x.chunk(2, -1)
    return x * cosines + torch.cat([-two, one], -1) * sines


def cache_names(layers: int, when: str) -> list[str]:
    """`past_key.0`, `past_value.0`, `past_key.1` ..."""
    return [f"{when}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


@contextmanager
def quietly() -> Iterator[None]:
    """Without torch's words about its own future and about torchvision, which nobody here wants. Errors stay errors."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(before)


def export_graph(step: StepWithCache, path: Path) -> None:
    """Writes the graph; any number of rows, tokens, and tokens before."""
    rows, length, before = EXAMPLE
    config, batch = step.config, torch.export.Dim.DYNAMIC
    layers = config["num_hidden_layers"]
    empty = torch.zeros(rows, config["num_key_value_heads"], before, config["head_dim"])
    shapes = ({0: batch, 1: batch}, [{0: batch, 2: batch}] * (2 * layers))
    with quietly():
        torch.onnx.export(
            step.eval(),
            (torch.ones(rows, length, dtype=torch.long), [empty.clone() for _ in range(2 * layers)]),
            str(path),
            input_names=["ids", *cache_names(layers, "past")],
            output_names=["logits", *cache_names(layers, "present")],
            dynamic_shapes=shapes,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
