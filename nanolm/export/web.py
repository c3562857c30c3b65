"""A web page that writes in the browser: a folder that any static host serves. Needs the extra `onnx`.

In: a run of a stock architecture, and the package onnxruntime-web. Out: index.html and what it loads. The runtime is
Microsoft's (MIT) and no part of nanolm: two files of one release, known by their digests.
"""

import shutil
import subprocess
import sys
import tarfile
from html import escape
from pathlib import Path
from string import Template

from nanolm.errors import ConfigError
from nanolm.export.onnx import write_onnx
from nanolm.files import make_folder, sha256, user_cache, write_atomic
from nanolm.locks import built_once
from nanolm.runs.run import Run
from nanolm.web.html import Html, page, resource

PACKAGE = "onnxruntime-web@1.30.0"
SCRIPT = "ort.wasm.bundle.min.mjs"
RUNTIME = {  # of the package's dist/, with their SHA-256
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
BY_HAND = f"`npm pack {PACKAGE}` gives a .tgz; unpack it, and give runtime=package"


def write_web(run: Run, folder: Path, runtime: str | None = None) -> None:
    """The page and all that it loads. runtime: the unpacked package; None: fetched by npm, once."""
    source = Path(runtime, "dist") if runtime else fetched_runtime()
    check_runtime(source)
    write_onnx(run, folder)
    make_folder(folder / "runtime")
    for name in RUNTIME:
        shutil.copy(source / name, folder / "runtime")
    write_atomic(folder / "index.html", writing_page(run))
    model, scripts = (folder / "model.onnx").stat(), [(source / name).stat() for name in RUNTIME]
    own, theirs = model.st_size / 1e6, sum(file.st_size for file in scripts) / 1e6
    print(f"{own:.1f} MB of model, {theirs:.1f} MB of runtime (a quarter of that where the host packs it)")
    print(f"look at it: python -m http.server --directory {folder}")


def writing_page(run: Run) -> str:
    """index.html: a prompt, two knobs, and the text as it grows."""
    model, name = run.trained(), run.folder.resolve().name
    total = f"{sum(model.summary().values()):,}"
    words = {"name": escape(name), "total": total, "context": model.context, "tokens": min(60, model.context)}
    sizes = {"context": model.context, "key_heads": model.config.key_heads, "head_dims": model.config.head_dims}
    body = Html(Template(resource("write.html")).substitute(words))
    return page("write", name, body, sizes | {"runtime": f"./runtime/{SCRIPT}"}, model=True)


def check_runtime(folder: Path) -> None:
    """ConfigError unless the folder has the two files as they were released."""
    for name, digest in RUNTIME.items():
        if not (folder / name).is_file():
            raise ConfigError(f"runtime={folder.parent}: has no dist/{name}; {BY_HAND}")
        if sha256(folder / name) != digest:
            raise ConfigError(f"runtime={folder.parent}: dist/{name} is not that of {PACKAGE}; {BY_HAND}")


def fetched_runtime() -> Path:
    """The folder of the two files, which npm fetches when they are wanted first."""
    return built_once(user_cache() / PACKAGE, fetch_runtime)


def fetch_runtime(folder: Path) -> None:
    """The two files, out of the package that npm fetches and checks."""
    npm = shutil.which("npm")
    if not npm:
        raise ConfigError(f"runtime=null: format=web needs {PACKAGE}, and npm to fetch it; elsewhere {BY_HAND}")
    print(f"fetching {PACKAGE} by npm to {folder.parent}", file=sys.stderr)
    done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        line = " ".join(done.stderr.split())[:200]
        raise ConfigError(f"runtime=null: npm can't fetch {PACKAGE} ({line}); {BY_HAND}")
    [packed] = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        for name in RUNTIME:
            file = archive.extractfile(f"package/dist/{name}")
            assert file, "npm has checked what it fetched"
            write_atomic(folder / name, file.read())
    packed.unlink()
