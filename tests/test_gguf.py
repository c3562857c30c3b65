"""format=gguf, judged by llama.cpp itself: the same ids from text, the same probabilities, the same greedy words."""

from pathlib import Path
from typing import Any

import pytest
import torch
import untrained
from tiny_run import tiny_config

from nanolm.config import build
from nanolm.errors import ConfigError
from nanolm.export.export import export
from nanolm.generator import load
from nanolm.tokenizer.base import BOS, PAD, UNK
from nanolm.training.train import train

PROMPTS = ["ada", "the old map . her brother", "a ship .", "dan finds her brother . gus"]
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3-untied-grouped": {"tied": False, "heads": 4, "kv_heads": 2},
    "llama": {"qk_norm": False},
    "llama-untied-grouped": {"qk_norm": False, "tied": False, "heads": 4, "kv_heads": 1},
}


def llama(folder: Path) -> Any:
    """llama.cpp with the model of an exported folder, all in fp32."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "model.gguf")
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # which rounds
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.warmup = 64, 1, 1, False
    return xllamacpp.Server(params)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_llama_cpp_writes_the_same(tmp_path: Path, model: dict[str, Any]) -> None:
    pytest.importorskip("gguf")
    words = build("tokenizer", {"name": "bpe", "vocab_size": 300})
    config = tiny_config(tmp_path, model={"context": 48} | model, tokenizer=words, epochs=2)
    train(config, folder=tmp_path / "out" / "run")
    server = llama(export("latest", "gguf", outputs=config.outputs))
    generator = load(tmp_path / "out" / "run", precision="fp32")
    never = [[special, False] for special in (PAD, UNK, BOS)]
    for prompt in PROMPTS:
        ids = torch.tensor([[BOS, *generator.tokenizer.encode(prompt)]])
        ours = generator.model.step(ids, generator.model.new_cache(1))[0].log_softmax(-1)
        asked = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 5, "logit_bias": never}
        (choice,) = server.handle_completions(asked)["choices"]
        for one in choice["logprobs"]["content"][0]["top_logprobs"]:
            assert one["logprob"] == pytest.approx(float(ours[one["id"]]), abs=1e-4)
        text = generator.generate(prompt, "greedy", max_new_tokens=12)
        assert text == prompt + choice["text"]


@pytest.mark.parametrize("name", ["word", "char"])
def test_what_llama_cpp_cannot_read_is_refused(tmp_path: Path, name: str) -> None:
    run = untrained.run(tmp_path, untrained.tokenizer(name))
    with pytest.raises(ConfigError, match=rf"tokenizer={name}: .*tokenizer=bpe"):
        export(str(run.folder), "gguf", outputs=str(tmp_path / "out"))


def test_an_architecture_of_ours_is_refused(tmp_path: Path) -> None:
    run = untrained.run(tmp_path, untrained.tokenizer("bpe"), norm="layer")
    with pytest.raises(ConfigError, match=r"model\.norm=layer"):
        export(str(run.folder), "gguf", outputs=str(tmp_path / "out"))
