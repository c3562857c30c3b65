"""A run for others: a folder that transformers opens, a Hugging Face Space, a run folder in int8; and the way there.

In: a run. Out: a folder with a model card of the run's real figures, uploaded if asked. transformers is not needed: the
files are written by hand. Files that the folder holds already are replaced one by one; none is deleted.
"""

import html
import json
import re
import shutil
import sys
from collections.abc import Iterable
from functools import partial
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from safetensors.torch import save
from torch import Tensor

from nanolm.baselines import run_baselines
from nanolm.config import ConfigError, NanolmError, one_of
from nanolm.files import make_folder, names, read_json, write_atomic, write_json
from nanolm.model.layers import Stacked
from nanolm.model.quantize import quantize
from nanolm.model.transformer import Transformer
from nanolm.page import resource
from nanolm.run import BEST, Run, find_run
from nanolm.text import harmless
from nanolm.weights import read_weights, write_weights

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
# what both architectures are; with qk_norm it is Qwen3, without it Llama
STOCK: dict[str, Any] = {"norm": "rms", "norm_position": "pre", "positions": "rotary", "mlp": "swiglu"}
STOCK |= {"biases": False, "attention_output": True}
START = '"""Starts the page of this folder."""\n\nfrom nanolm.space import launch\n\nlaunch()\n'


def export(
    run: str, kind: str = "hf", folder: str | None = None, push: str | None = None, outputs: str = "outputs"
) -> Path:
    """Writes the folder (None: outputs/exports/<run>-<kind>), uploads it to `push` (user/name); returns the folder.

    Raises NanolmError where the run can't be exported or the upload fails; the folder is whole in the latter case.
    """
    writers = {"hf": write_hf, "space": write_space, "int8": write_int8}
    one_of("format", kind, list(writers))
    if push is not None and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", push, re.ASCII):
        raise ConfigError(f"push={push}: must be user/name, of letters, digits, - _ .")
    opened = Run.open(find_run(run, outputs))
    place = Path(folder or Path(outputs, "exports", f"{opened.folder.resolve().name}-{kind}"))
    try:
        writers[kind](opened, place)
    except OSError as error:
        raise NanolmError(f"folder={place}: can't be written ({error}); check free space and permissions") from error
    write_atomic(place / "README.md", card(opened, kind, push or "path/to/this/folder", Path(outputs, "cache")))
    print(f"written to {place}")
    if push:
        print(f"uploaded to {upload(place, push, 'space' if kind == 'space' else 'model')}")
    return place


def write_hf(run: Run, folder: Path) -> None:
    """model.safetensors, and four JSON files: what is the same for every run is in the resource hf.json.

    The tokenizer puts <BOS> before a text; by `split_special_tokens` a typed <EOS> stays text. Generation may fill the
    context and write one token more, which is never fed back.
    """
    model = run.trained()
    own = {
        "config.json": architecture(model),
        "generation_config.json": {"max_length": model.context + 1},
        "tokenizer.json": read_json(run.file("tokenizer.json")),
        "tokenizer_config.json": {"model_max_length": model.context},
    }
    make_folder(folder)
    for name, fixed in json.loads(resource("hub/hf.json")).items():
        write_json(folder / name, own[name] | fixed)
    write_atomic(folder / "model.safetensors", save(renamed(model), {"format": "pt"}))


def architecture(model: Transformer) -> dict[str, Any]:
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


def renamed(model: Transformer) -> dict[str, Tensor]:
    """The weights under their names in transformers, stacked ones taken apart."""
    found = {}
    for name, tensor in model.state_dict().items():
        block = re.search(r"\d+", name)
        module = model.get_submodule(name.rpartition(".")[0])
        parts = tensor.split(module.parts if isinstance(module, Stacked) else [len(tensor)])
        for theirs, part in zip(NAMES[re.sub(r"\d+", "{}", name)], parts, strict=True):
            found[theirs.format(block and block[0])] = part.clone()
    return found


def write_space(run: Run, folder: Path) -> None:
    """What `space.py` reads, app.py, requirements.txt, and the package itself. No path of this machine goes along."""
    model, package = run.trained(), Path(str(files("nanolm")))
    make_folder(folder)
    write_json(folder / "model.json", run.config["model"] | {"context": model.context})
    write_weights(folder / "model.safetensors", model.state_dict(), {})
    shutil.copy(run.file("tokenizer.json"), folder)
    shutil.copytree(package, folder / "nanolm", ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True)
    if (package.parent / "LICENSE").exists():
        shutil.copy(package.parent / "LICENSE", folder)
    write_atomic(folder / "app.py", START)
    write_atomic(folder / "requirements.txt", resource("hub/requirements.txt"))


def write_int8(run: Run, folder: Path) -> None:
    """The run with its best weights in int8: a quarter of the size. `run=` takes the folder; training does not."""
    model, (_, best) = run.trained(), read_weights(run.weights())
    quantize(model)
    names = {"tokenizer.json", "speller.json", "environment.json"} & set(run.manifest["files"])
    same: dict[str, Any] = {name: partial(shutil.copy, run.file(name)) for name in names}
    made = Run.create(folder, run.config, run.manifest["plan"], same)
    write_weights(folder / BEST, model.state_dict(), best)
    write_json(folder / "status.json", run.status())
    print(f"{made.weights().stat().st_size:,} bytes of weights; they were {run.weights().stat().st_size:,}")


def card(run: Run, kind: str, where: str, cache: Path) -> str:
    """README.md: front matter, how to use it, and the run's own figures. Whatever the run says stands there as text."""
    status, config, name = run.status(), run.config, run.folder.resolve().name
    found, scores = known_baselines(run, cache), {}
    for split in ("val", "test"):
        scores[split] = {"this model": status.get(f"{split}_bpb"), **found.get(split, {})}
        scores[split]["floor"] = status.get(f"{split}_floor")
    facts = {key: config.get(key, {}) for key in ("data", "tokenizer", "model")}
    facts["data"] = facts["data"] | {"path": names(facts["data"].get("path"))}  # no folder of this machine
    facts |= {key: part for key in ("documents", "parameters") if isinstance(part := status.get(key), dict)}
    facts["training"] = {key: status.get(key) for key in ("vocabulary", "epochs", "tokens", "seconds", "test_unk_rate")}
    rows = [(f"{group}.{key}", value) for group, values in facts.items() for key, value in values.items()]
    return Template(resource(f"hub/{kind}.md") + resource("hub/card.md")).substitute(
        title=json.dumps(name),
        name=safe(name),
        where=where,
        total=safe(sum(n for n in facts.get("parameters", {}).values() if isinstance(n, int))),
        context=safe(config["model"]["context"]),
        scores=table((row.replace("_", " "), scores["val"][row], scores["test"].get(row)) for row in scores["val"]),
        facts=table(row for row in rows if row[1] not in (None, "")),
    )


def table(rows: Iterable[Iterable[Any]]) -> str:
    """The rows of a Markdown table."""
    return "\n".join(f"| {' | '.join(map(safe, row))} |" for row in rows)


def safe(value: Any) -> str:
    """A value as Markdown that shows it: no tag, link, table cell or emphasis can come of it."""
    if value is None:
        return "not measured"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.5g}" if isinstance(value, float) else f"{value:,}"
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(" ".join(str(value).split())))


def known_baselines(run: Run, cache: Path) -> dict[str, dict[str, float]]:
    """{split: {baseline: bits per byte}}; none, with a word, where the run's data has gone or changed."""
    try:
        return run_baselines(run, cache)
    except NanolmError as error:
        print(harmless(f"no baselines in the model card: {error}"), file=sys.stderr)
        return {}


def upload(folder: Path, name: str, kind: str) -> str:
    """The folder's files go to the repository `name` of `kind` (model, space), made if need be; returns its address."""
    from huggingface_hub import HfApi, get_token

    ready = f"the folder is ready: {folder}"
    if not get_token():
        raise ConfigError(f"push={name}: no Hugging Face token; get one with `hf auth login`, or set HF_TOKEN; {ready}")
    try:
        api = HfApi()
        address = api.create_repo(name, repo_type=kind, exist_ok=True, space_sdk="gradio" if kind == "space" else None)
        api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder, commit_message="Export from nanolm")
    except Exception as error:  # the hub's own errors, and those of whatever it speaks HTTP with
        line = " ".join(str(error).split())[:200]
        mend = "is the network there, and may the token write to it?"
        raise NanolmError(f"push={name}: {type(error).__name__}: {line}; {mend} {ready}") from error
    return str(address)
