"""Run folders from a stranger, every checksum right: values of the wrong kind, lies about sizes, links, terminal codes.

In: how many random lies. Out: a Count. Right is a complaint of one line or an answer; never a traceback, a hang, much
memory, a control character in the terminal, or a file outside the run and the outputs that is read or changed.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nanolm.files import sha256
from nanolm.runs.weights import read_weights, write_weights
from trials.count import Count
from trials.damage import make
from trials.verbs import VERBS, tried

SHELL = "a\x1b]0;owned\x07\x1b[2J\r\u202e$(touch OWNED)`touch OWNED`<img src=x onerror=alert(1)>&lt;'\";|../../x"
JUNK: list[Any] = [None, True, -1, 0, 1, 10**9, 2**63, 10**30, 1e308, float("nan"), "", SHELL, [], [[]], {}, {"a": [1]}]
JUNK += [
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "???",
    "${oc.env:HOME}",
    "x" * 10**6,
]
JUNK += [
    "x" * 10**6,
    {"_target_": "os.system", "command": "touch OWNED"},
    {"name": "os"},
    {"name": "files", "path": "/etc/passwd"},
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
FILES = ("config.json", "manifest.json", "status.json", "tokenizer.json", "speller.json", "environment.json")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside; of a long list or table only the first few."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs)[:30]:
        yield from places(item, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """`value` with `new` at the path."""
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = put(value[path[0]], path[1:], new)
    return copied


def sign(run: Path) -> None:
    """Makes the manifest's checksums right again, as a stranger would."""
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict):
        names = [name for name in manifest["files"] if (run / str(name)).is_file() and "/" not in name]
        path.write_text(json.dumps(manifest | {"files": manifest["files"] | {n: sha256(run / n) for n in names}}))


def lie(run: Path, chance: random.Random) -> str:
    """Puts junk somewhere into one of the JSON files, or into what a checkpoint notes; says where."""
    name = chance.choice((*FILES, "last.safetensors"))
    if name == "last.safetensors":
        tensors, note = read_weights(run / name)
        path, junk = chance.choice(list(places(note))), chance.choice(JUNK)
        write_weights(run / name, tensors, put(note, path, junk))
        return f"{name}: {'.'.join(map(str, path))[:60]} = {str(junk)[:30]!r}"
    value = json.loads((run / name).read_text())
    path, junk = chance.choice(list(places(value))), chance.choice(JUNK)
    (run / name).write_text(json.dumps(put(value, path, junk)))
    sign(run)
    return f"{name}: {'.'.join(map(str, path))[:60]} = {str(junk)[:30]!r}"


def linked(name: str) -> Callable[[Path, Path], None]:
    def change(run: Path, secret: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(secret)
        sign(run)

    return change


def pipe(name: str) -> Callable[[Path, Path], None]:
    def change(run: Path, secret: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def weights(header: dict[str, Any] | None, length: int | None = None) -> Callable[[Path, Path], None]:
    """A safetensors file whose header lies."""

    def change(run: Path, secret: Path) -> None:
        text = json.dumps(header).encode()
        data = (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(64)
        for name in ("best.safetensors", "last.safetensors"):
            (run / name).write_bytes(data)

    return change


def model(**fields: Any) -> Callable[[Path, Path], None]:
    def change(run: Path, secret: Path) -> None:
        config = json.loads((run / "config.json").read_text())
        config["model"] |= fields
        (run / "config.json").write_text(json.dumps(config))
        sign(run)

    return change


def named(run: Path, secret: Path) -> None:
    """Terminal codes, shell and HTML wherever a run says something of itself."""
    for name, keys in (("config.json", ("run_name", "group")), ("status.json", ("error", "state"))):
        value = json.loads((run / name).read_text()) | dict.fromkeys(keys, SHELL)
        if name == "config.json":
            value["model"]["name"], value["tags"], value["prompts"] = SHELL, [SHELL], [SHELL]
        (run / name).write_text(json.dumps(value))
    (run / "samples.txt").write_text(SHELL)
    sign(run)


def elsewhere(run: Path, secret: Path) -> None:
    """Outputs, and an online record, of the stranger's choice."""
    config = json.loads((run / "config.json").read_text())
    config |= {"outputs": str(secret.parent / "outputs"), "tracking": {"name": "online", "entity": "stranger"}}
    (run / "config.json").write_text(json.dumps(config))
    sign(run)


def climbing(run: Path, secret: Path) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= {"../../secret/secret.txt": "0" * 64, "/etc/passwd": "0" * 64}
    path.write_text(json.dumps(manifest | {"id": "../../../x"}))


LINKS = ("config.json", "metrics.csv", "status.json", "samples.txt", ".lock", "best.safetensors", "next.safetensors")
HUGE = {"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
TRICKS: dict[str, Callable[[Path, Path], None]] = {
    **{f"{name} is a link": linked(name) for name in LINKS},
    **{f"{name} is a pipe": pipe(name) for name in ("config.json", "manifest.json", "status.json", "best.safetensors")},
    **{f"{name} is a pipe": pipe(name) for name in ("metrics.csv", "samples.txt", "last.safetensors", ".lock")},
    "weights with a header of 2^62 bytes": weights({}, 2**62),
    "weights with a header of 90 MB": weights({}, 90_000_000),
    "a tensor of 2^60 numbers": weights(HUGE),
    "a header that nests": weights(None, None),
    "10^9 blocks": model(nblocks=10**9),
    "2^40 dims": model(dims=2**40, heads=2**20),
    "a context of 2^60": model(context=2**60),
    "a context of 10^8": model(context=10**8),
    "a hidden of 2^62": model(hidden=2**62),
    "terminal codes everywhere": named,
    "outputs elsewhere, tracked online": elsewhere,
    "a manifest that climbs": climbing,
}


def hostile(count: Count, folder: Path, trials: int, seed: int) -> None:
    """Every trick, then `trials` random lies, each against a verb (the tricks against all)."""
    chance, good, secret = random.Random(seed), make(folder), folder / "secret" / "secret.txt"
    secret.parent.mkdir()
    os.chdir(folder)
    cases: list[tuple[str, Callable[[Path], str]]] = [
        (verb, lambda run, name=name: (TRICKS[name](run, secret), name)[1])  # type: ignore[misc]
        for name in TRICKS
        for verb in VERBS
    ]
    cases += [(chance.choice(list(VERBS)), lambda run: lie(run, chance)) for _ in range(trials)]
    for verb, change in cases:
        secret.write_text("a secret of the user's\n")
        run = Path(shutil.copytree(good, folder / "case" / "run"))
        what = change(run)
        ended, _ = tried(verb, run, folder / "out2", folder / "log.txt")
        found = [f"crashed: {ended.output[-900:]}"] if ended.crashed else []
        if ended.status == 1 and ended.output.count("train.py: ") != 1:
            found.append(f"not one line: {ended.output[-300:]}")
        if control := CONTROL.search(ended.output.replace("\r\n", "\n")):
            found.append(f"{control[0]!r} reaches the terminal")
        if secret.read_text() != "a secret of the user's\n" or len(list(secret.parent.iterdir())) > 1:
            found.append("wrote outside of the run")
        if list(folder.rglob("OWNED")):
            found.append("ran a command")
        if leaks := [path for path in (folder / "out2").rglob("*.*") if b"secret of the" in path.read_bytes()]:
            found.append(f"the secret is in {leaks}")
        count.add(f"{verb}: {what}", found)
        shutil.rmtree(folder / "case")
        shutil.rmtree(folder / "out2", ignore_errors=True)
        shutil.rmtree(secret.parent / "outputs", ignore_errors=True)
    os.chdir("/")
