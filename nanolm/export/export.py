"""A run for others: transformers, llama.cpp, onnxruntime, a web page, a Hugging Face Space, int8; and the way there.

In: a run. Out: a folder with a model card of the run's real figures, uploaded if asked. transformers is not needed: the
files are written by hand. Files that the folder holds already are replaced one by one; none is deleted.
"""

import re
from functools import partial
from pathlib import Path

from nanolm.config import one_of
from nanolm.errors import ConfigError, NanolmError
from nanolm.export.card import model_card
from nanolm.export.gguf import write_gguf
from nanolm.export.hf import write_hf
from nanolm.export.int8 import write_int8
from nanolm.export.onnx import write_onnx
from nanolm.export.space import write_space
from nanolm.export.web import write_web
from nanolm.files import write_atomic
from nanolm.runs.find import find_run
from nanolm.runs.run import LAST, Run

SPACES = {"space": "gradio", "web": "static"}  # what runs the folder where it is uploaded as a Space


def export(
    run: str,
    kind: str = "hf",
    folder: str | None = None,
    push: str | None = None,
    outputs: str = "outputs",
    runtime: str | None = None,
) -> Path:
    """Writes the folder (None: outputs/exports/<run>-<kind>), uploads it to `push` (user/name); returns the folder.

    runtime: for `web`, the unpacked package onnxruntime-web; None: fetched. Raises NanolmError where the run can't be
    exported or the upload fails; the folder is whole in the latter case.
    """
    writers = {"hf": write_hf, "space": write_space, "int8": write_int8, "gguf": write_gguf, "onnx": write_onnx}
    writers["web"] = partial(write_web, runtime=runtime)
    one_of("format", kind, list(writers))
    if push is not None and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", push, re.ASCII):
        raise ConfigError(f"push={push}: must be user/name, of letters, digits, - _ .")
    if runtime and kind != "web":
        raise ConfigError(f"runtime={runtime}: is for format=web only, not format={kind}")
    opened = Run.open(find_run(run, outputs))
    place = Path(folder or Path(outputs, "exports", f"{opened.folder.resolve().name}-{kind}"))
    if place.resolve() == opened.folder.resolve() or (place / LAST).exists():
        raise ConfigError(f"folder={place}: is a run itself, which would be overwritten; give another folder")
    try:
        writers[kind](opened, place)
    except OSError as error:
        raise NanolmError(f"folder={place}: can't be written ({error}); check free space and permissions") from error
    write_atomic(place / "README.md", model_card(opened, kind, push or "path/to/this/folder", Path(outputs, "cache")))
    print(f"written to {place}")
    if push:
        print(f"uploaded to {upload(place, push, SPACES.get(kind))}")
    return place


def upload(folder: Path, name: str, space: str | None = None) -> str:
    """The folder's files go to the repository `name`, made if need be; returns its address.

    space: what runs it (gradio, static) if it is to be a Space; None: a model.
    """
    from huggingface_hub import HfApi, get_token

    kind, ready = "space" if space else "model", f"the folder is ready: {folder}"
    if not get_token():
        raise ConfigError(f"push={name}: no Hugging Face token; get one with `hf auth login`, or set HF_TOKEN; {ready}")
    try:
        api = HfApi()
        address = api.create_repo(name, repo_type=kind, exist_ok=True, space_sdk=space)
        api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder, commit_message="Export from nanolm")
    except Exception as error:  # the hub's own errors, and those of whatever it speaks HTTP with
        line = " ".join(str(error).split())[:200]
        mend = "is the network there, and may the token write to it?"
        raise NanolmError(f"push={name}: {type(error).__name__}: {line}; {mend} {ready}") from error
    return str(address)
