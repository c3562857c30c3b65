"""A file that llama.cpp opens, and what is built on it. Needs the package `gguf`.

In: a run with a BPE tokenizer and a stock architecture. Out: model.gguf in fp32, which llama-quantize makes smaller.
llama.cpp normalises nothing: a prompt has to come as the training saw it.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.export.hf import hf_config, hf_weights
from nanolm.files import make_folder, replace
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.tokenizer.base import BOS, EOS, PAD, SPECIALS, UNK
from nanolm.tokenizer.bpe import BPETokenizer
from nanolm.web.html import resource


def write_gguf(run: Run, folder: Path) -> None:
    """model.gguf; ConfigError for a tokenizer or an architecture that llama.cpp doesn't have."""
    import gguf

    model, tokenizer = run.trained(), run.tokenizer()
    if not isinstance(tokenizer, BPETokenizer):
        mend = "it reads byte-level BPE: python train.py tokenizer=bpe"
        raise ConfigError(f"tokenizer={tokenizer.config.name}: llama.cpp has no such tokenizer; {mend}")
    config = hf_config(model) | json.loads(resource("hub/hf.json"))["config.json"]
    make_folder(folder)
    aside = folder / "model.gguf.part"
    writer = gguf.GGUFWriter(aside, config["model_type"])
    try:
        write_architecture(writer, config, run.folder.resolve().name)
        write_tokenizer(writer, tokenizer)
        for name, tensor in gguf_weights(model, config).items():
            writer.add_tensor(name, tensor.float().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        replace(aside, folder / "model.gguf")
    finally:
        aside.unlink(missing_ok=True)


def write_architecture(writer: Any, config: dict[str, Any], name: str) -> None:
    """The sizes of the model, from the words of transformers' config.json."""
    writer.add_name(name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def write_tokenizer(writer: Any, tokenizer: BPETokenizer) -> None:
    """GPT-2's byte-level BPE, with its way to cut a text before merging; the specials stand for themselves only."""
    from gguf import TokenType

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.vocabulary)
    types = [TokenType.CONTROL] * len(SPECIALS)
    writer.add_token_types([*types, *[TokenType.NORMAL] * (len(tokenizer) - len(SPECIALS))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_pad_token_id(PAD)
    writer.add_unk_token_id(UNK)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def gguf_weights(model: Transformer, config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights under llama.cpp's names. Its Llama turns pairs of neighbours, so the rows of q and k move there."""
    import gguf

    kind = gguf.MODEL_ARCH.QWEN3 if config["model_type"] == "qwen3" else gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    found = {}
    for name, tensor in hf_weights(model).items():
        if kind == gguf.MODEL_ARCH.LLAMA and name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = neighbours(tensor, config["head_dim"])
        found[f"{names.get_name(name.removesuffix('.weight'))}.weight"] = tensor
    return found


def neighbours(weight: Tensor, head_dims: int) -> Tensor:
    """(heads * head_dims, dims) with rows i and i + head_dims / 2 of each head side by side."""
    halves = weight.view(-1, 2, head_dims // 2, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)
