"""A folder that transformers opens. transformers is not needed: the files are written by hand.

In: a run. Out: weights under transformers' names and four JSON files.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.files import make_folder, read_json, write_atomic, write_json
from nanolm.model.layers import Stacked
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.web.html import resource

# ours -> transformers', the same in Llama and Qwen3; {} is the block; what we keep stacked is several of theirs
BLOCK = "model.layers.{}"
NAMES = {
    "embedding.weight": ["model.embed_tokens.weight"],
    "blocks.{}.attention_norm.weight": [f"{BLOCK}.input_layernorm.weight"],
    "blocks.{}.attention.qkv.weight": [f"{BLOCK}.self_attn.{part}_proj.weight" for part in "qkv"],
    "blocks.{}.attention.q_norm.weight": [f"{BLOCK}.self_attn.q_norm.weight"],
    "blocks.{}.attention.k_norm.weight": [f"{BLOCK}.self_attn.k_norm.weight"],
    "blocks.{}.attention.output.weight": [f"{BLOCK}.self_attn.o_proj.weight"],
    "blocks.{}.mlp_norm.weight": [f"{BLOCK}.post_attention_layernorm.weight"],
    "blocks.{}.mlp.up.weight": [f"{BLOCK}.mlp.{part}_proj.weight" for part in ("gate", "up")],
    "blocks.{}.mlp.down.weight": [f"{BLOCK}.mlp.down_proj.weight"],
    "norm.weight": ["model.norm.weight"],
    "output.weight": ["lm_head.weight"],
}

STOCK: dict[str, Any] = {  # what both architectures are; with qk_norm it is Qwen3, without it Llama
    "norm": "rms",
    "norm_position": "pre",
    "positions": "rotary",
    "mlp": "swiglu",
    "biases": False,
    "attention_output": True,
    "ngrams": 1,
}


# Decodes words that single spaces part, with a space before the first one too: pipelines decode what follows a prompt
# alone, where a decoder can't know whether it is at a text's beginning.
SPACED = {
    "type": "Sequence",
    "decoders": [{"type": "Replace", "pattern": {"Regex": "^"}, "content": " "}, {"type": "Fuse"}],
}


def write_hf(run: Run, folder: Path) -> None:
    """model.safetensors, and four JSON files: what is the same for every run is in nanolm/web/hub/hf.json.

    The tokenizer puts <BOS> before a text; by `split_special_tokens` a typed <EOS> stays text. How much is written is
    the caller's to say: a max_length here would quarrel with every max_new_tokens.
    """
    model, tokenizer = run.trained(), read_json(run.file("tokenizer.json"))
    own = {
        "config.json": hf_config(model),
        "generation_config.json": {},
        "tokenizer.json": tokenizer | {"decoder": tokenizer["decoder"] or SPACED},
        "tokenizer_config.json": {"model_max_length": model.context},
    }
    make_folder(folder)
    for name, fixed in json.loads(resource("hub/hf.json")).items():
        write_json(folder / name, own[name] | fixed)
    write_atomic(folder / "model.safetensors", save(hf_weights(model), {"format": "pt"}))


def hf_config(model: Transformer) -> dict[str, Any]:
    """The stock architecture that the model is exactly, in the words of config.json; ConfigError if it is none."""
    config = model.config
    if odd := [f"model.{key}={getattr(config, key)}" for key, value in STOCK.items() if getattr(config, key) != value]:
        sizes = f"model.dims={config.dims} model.heads={config.heads} model.nblocks={config.nblocks}"
        nearest = f"the nearest that it has: python train.py model=small {sizes}"
        raise ConfigError(f"{', '.join(odd)}: transformers has no stock architecture of this kind; {nearest}")
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "hidden_size": config.dims,
        "intermediate_size": config.hidden_dims,
        "num_hidden_layers": config.nblocks,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_dims,
        "tie_word_embeddings": config.tied,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.context,
    }


def hf_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under their names in transformers, stacked ones taken apart."""
    found = {}
    for name, tensor in model.state_dict().items():
        block = re.search(r"\d+", name)
        module = model.get_submodule(name.rpartition(".")[0])
        parts = tensor.split(module.parts if isinstance(module, Stacked) else [len(tensor)])
        for theirs, part in zip(NAMES[re.sub(r"\d+", "{}", name)], parts, strict=True):
            found[theirs.format(block and block[0])] = part.clone()
    return found
