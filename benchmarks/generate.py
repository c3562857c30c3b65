"""Writing: nanolm against transformers, CTranslate2 and the way without a cache, on equal shapes with equal weights.

Prints tables. Every way writes exactly NEW tokens a text, greedily, after the same prompt; where caches are compared
with none, LONG tokens after two, as the original did with its texts of up to 128 words.
"""

import json
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from timer import compare, machine
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from nanolm.config import build, fill
from nanolm.export.hf import write_hf
from nanolm.files import write_json
from nanolm.generator import load
from nanolm.hardware import cpu_has
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights

VOCABULARY, CONTEXT, NEW, LONG = 8500, 512, 64, 128
PROMPT = [2, *range(100, 108)]
SHAPES: dict[str, dict[str, Any]] = {
    "base": {"dims": 512, "heads": 8, "nblocks": 6},
    "original": {"dims": 512, "heads": 8, "nblocks": 3, "norm": "layer", "norm_position": "post", "tied": False}
    | {"positions": "sinusoidal", "mlp": "single", "qk_norm": False, "biases": True, "attention_output": False},
}


def make_run(folder: Path, shape: dict[str, Any]) -> Run:
    """A run with first weights and a vocabulary of that many words."""
    words = [chr(97 + i // 676) + chr(97 + i // 26 % 26) + chr(97 + i % 26) for i in range(VOCABULARY - 4)]
    tokenizer = build("tokenizer", {"name": "word"}).fit([" ".join(words)], "clean")
    config = {"model": shape | {"context": CONTEXT}}
    run = Run.create(folder, config, {}, {"tokenizer.json": tokenizer.save})
    torch.manual_seed(0)
    model = Transformer(fill(ModelConfig, config["model"], "model"), len(tokenizer), CONTEXT)
    write_weights(folder / BEST, model.state_dict(), {})
    write_json(folder / "status.json", {})
    return run


def ours(model: Transformer, prompts: int = 1, new: int = NEW, **fields: Any) -> Callable[[], float]:
    """Writes with nanolm."""
    config = build("decode", {"name": "greedy", "max_new_tokens": new, "min_new_tokens": new} | fields)
    prompt = PROMPT if new == NEW else PROMPT[:2]

    @torch.inference_mode()
    def way() -> float:
        config.decode(model, [prompt] * prompts, CONTEXT, [[0]] * prompts)
        return prompts * new

    return way


def without_cache(model: Transformer) -> Callable[[], float]:
    """Reads the whole text again for every token, as the original did."""

    @torch.inference_mode()
    def way() -> float:
        ids = torch.tensor([PROMPT[:2]])
        for _ in range(LONG):
            ids = torch.cat([ids, model.logits(model(ids)[:, -1]).argmax(-1, keepdim=True)], 1)
        return LONG

    return way


def theirs(model: Any, prompts: int = 1, new: int = NEW, **how: Any) -> Callable[[], float]:
    """Writes with transformers."""
    ids = torch.tensor([PROMPT if new == NEW else PROMPT[:2]] * prompts)
    fixed = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0, "eos_token_id": 3}

    def way() -> float:
        model.generate(ids, attention_mask=torch.ones_like(ids), **fixed, **how)
        return prompts * new

    return way


def converted(folder: Path, prompts: int = 1) -> Callable[[], float]:
    """Writes with CTranslate2 in int8."""
    place = ctranslate2.converters.TransformersConverter(str(folder)).convert(str(folder) + "-ct2", quantization="int8")
    generator = ctranslate2.Generator(place, compute_type="int8", intra_threads=torch.get_num_threads())
    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    names = {number: token for token, number in tokens.items()}
    batch = [[names[token] for token in PROMPT]] * prompts

    def way() -> float:
        generator.generate_batch(batch, max_length=NEW, min_length=NEW, include_prompt_in_result=False)
        return prompts * NEW

    return way


def models(run: Run) -> dict[str, Transformer]:
    """One model in each precision that this machine multiplies in."""
    names = ["fp32", "bf16", "int8"] if cpu_has("bf16") else ["fp32", "int8"]
    how: dict[str, Any] = {name: {"precision": "fp32"} if name == "fp32" else {"quantize": name} for name in names}
    return {name: load(run.folder, device="cpu", **fields).model for name, fields in how.items()}


def cached(models: dict[str, Transformer]) -> dict[str, Callable[[], float]]:
    """The way without a cache, and each model with one, writing LONG tokens."""
    ways = {"nanolm, no cache": without_cache(models["fp32"])}
    return ways | {f"nanolm {name}": ours(model, new=LONG) for name, model in models.items()}


def flatness(model: Transformer) -> None:
    """Prints the milliseconds of a token at the head and at the end of a full context."""
    config, times = build("decode", {"name": "greedy", "min_new_tokens": CONTEXT - 1}), []
    with torch.inference_mode():
        for _ in config.stream(model, PROMPT[:1], CONTEXT, [0]):
            times.append(time.perf_counter())
    steps = [1000 * (after - before) for before, after in pairwise(times)]
    parts = {f"tokens {at} to {at + 64}": sorted(steps[at : at + 64])[32] for at in (16, 224, 432)}
    print("\nms per token, base fp32, median: " + ", ".join(f"{name}: {ms:.2f}" for name, ms in parts.items()))


def main() -> None:
    logging.set_verbosity_error()
    machine("Generation")
    with tempfile.TemporaryDirectory() as place:
        run, folder = make_run(Path(place, "base"), SHAPES["base"]), Path(place, "hf")
        write_hf(run, folder)
        base, hf = models(run), AutoModelForCausalLM.from_pretrained(folder).eval()
        print(
            f"\nOne prompt, greedy, `base` (dims 512, heads 8, nblocks 6, vocabulary {VOCABULARY:,}), {NEW} new tokens:"
        )
        ways = {"transformers, cache, fp32": theirs(hf), "CTranslate2 int8": converted(folder)}
        plain = models(run)
        for model in plain.values():
            model.quick_step = None
        ways |= {f"nanolm {name}, its own steps": ours(model) for name, model in plain.items()}
        compare(ways | {f"nanolm {name}": ours(model) for name, model in base.items()}, "tokens/s")
        print(f"\nA cache against none, one prompt of two tokens, greedy, `base`, {LONG} new tokens:")
        ways = {"transformers, no cache": theirs(hf, new=LONG, use_cache=False)}
        compare(ways | cached(base), "tokens/s", 3)
        print("\n64 prompts at once, `base`:")
        ways = {"nanolm fp32, one prompt": ours(base["fp32"]), "transformers, fp32": theirs(hf, 64)}
        compare(ways | {f"nanolm {name}": ours(model, 64) for name, model in base.items()}, "tokens/s", 3)
        print("\n10 beams, one prompt, `base`:")
        beams = {f"nanolm {name}": ours(model, name="beam", num_beams=10) for name, model in base.items()}
        compare({"transformers, fp32": theirs(hf, num_beams=10)} | beams, "tokens/s", 3)
        flatness(base["fp32"])
        original = models(make_run(Path(place, "original"), SHAPES["original"]))
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 3, "num_attention_heads": 8}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, **sizes)).eval()
    print("\nOne prompt, greedy, `original` (dims 512, heads 8, nblocks 3) against a Llama of these dims:")
    ways = {"transformers, cache, fp32": theirs(llama)}
    compare(ways | {f"nanolm {name}": ours(model) for name, model in original.items()}, "tokens/s")
    print(f"\nA cache against none, one prompt of two tokens, greedy, `original`, {LONG} new tokens:")
    compare({"transformers, no cache": theirs(llama, new=LONG, use_cache=False)} | cached(original), "tokens/s", 3)


if __name__ == "__main__":
    main()
