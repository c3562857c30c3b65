"""Windows and macOS, as far as Linux can stand in for them: what they lack is taken away, what they refuse fails."""

import ast
import errno
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import instructions, linux_only
from tiny_run import tiny_config

from nanolm import files, hardware, workers
from nanolm.errors import NanolmError
from nanolm.files import read_json, write_json
from nanolm.locks import built_once
from nanolm.training.checkpoint import load_checkpoint, save_checkpoint
from nanolm.training.progress import Progress
from nanolm.training.setup import set_up

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "nanolm").rglob("*.py"))
]
TAKEN_AWAY = """
import builtins, os, signal, sys
real_import = builtins.__import__

def theirs(depth=2):  # other packages' Linux parts may use what Linux has
    return not str(sys._getframe(depth).f_globals.get("__name__")).startswith(("nanolm", "tiny_run"))

def import_(name, *args, **more):
    if name.split(".")[0] in ("fcntl", "resource", "pwd", "grp", "termios") and not theirs():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real_import(name, *args, **more)

builtins.__import__ = import_
for module, names in {os: ("sysconf", "fork", "mkfifo", "killpg", "kill"), signal: ("alarm", "pthread_kill")}.items():
    for name in names:
        def call(*args, real=getattr(module, name), name=name):
            if theirs():
                return real(*args)
            raise AttributeError(name)
        setattr(module, name, call)
del os.sched_getaffinity, signal.SIGHUP, signal.SIGKILL, signal.SIGUSR1
"""
EVERY_MODULE = (
    TAKEN_AWAY
    + """
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
)
A_RUN = (
    TAKEN_AWAY
    + """
import multiprocessing
multiprocessing.set_start_method("spawn")
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_run import tiny_config
from nanolm import workers
from nanolm.generator import load
from nanolm.training.train import train
folder = Path(sys.argv[2])
workers.FORKS, workers.ALONE, workers.BLOCK, workers.CORES = False, 1, 50, 2
train(tiny_config(folder, epochs=1), folder=folder / "run")
train(tiny_config(folder, resume=str(folder / "run")), ["epochs=2"])
assert load(folder / "run").generate("ada", "greedy", max_new_tokens=2)
"""
)


def run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux_only
def test_every_module_can_be_imported_without_what_windows_lacks() -> None:
    needs = {"gradio": "nanolm.app", "hydra": "nanolm.sweep"}
    missing = [room for package, room in needs.items() if importlib.util.find_spec(package) is None]
    run(EVERY_MODULE, *(name for name in MODULES if not name.startswith(tuple(missing or ["-"]))))


@linux_only
def test_a_run_is_trained_resumed_and_read_without_what_windows_lacks(tmp_path: Path) -> None:
    run(A_RUN, str(ROOT / "tests"), str(tmp_path))
    assert read_json(tmp_path / "run" / "status.json")["state"] == "finished"


def test_no_text_file_is_opened_in_the_machines_own_encoding() -> None:
    """On Windows that would be cp1252."""
    wrong = []
    for file in [*(ROOT / "nanolm").rglob("*.py"), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node) and "encoding" not in ast.dump(node):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def opens_text(call: ast.Call) -> bool:
    """open(...) without a "b" in its mode, Path.read_text() or write_text(text), subprocess.run(text=True)."""
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
        return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    if any(keyword.arg == "text" for keyword in call.keywords):
        return isinstance(call.func, ast.Attribute) and call.func.attr in ("run", "Popen", "check_output")
    arguments = {"read_text": 0, "write_text": 1}
    return isinstance(call.func, ast.Attribute) and arguments.get(call.func.attr) == len(call.args)


def test_a_reader_delays_a_rename_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", 1)
    real, refused = os.replace, list[Any]()

    def replace(source: Any, target: Any) -> None:
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(NanolmError, match=r"a\.json: can't be written"):
        write_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1
    refused.clear()
    monkeypatch.setattr(files, "WINDOWS", True)
    write_json(tmp_path / "a.json", 2)
    assert (read_json(tmp_path / "a.json"), len(refused)) == (2, 3)


def test_windows_has_no_handles_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WINDOWS", True)
    real = os.open

    def refusing(path: Any, flags: int, *mode: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        if not flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EBADF, "a file that is open for reading can't be flushed")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refusing)
    write_json(tmp_path / "a.json", 1)
    built_once(tmp_path / "folder", lambda aside: (aside / "a").touch())  # type: ignore[arg-type, return-value]
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "folder", "folder.lock"}


def test_without_forks_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FORKS": False, "CORES": 2, "ALONE": 1}.items():
        monkeypatch.setattr(workers, name, value)
    assert list(workers.spread(lambda n: (n, os.getpid()), range(5))) == [(n, os.getpid()) for n in range(5)]


def test_peak_memory_of_windows_and_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert hardware.total_memory() > 2**28
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setitem(
        sys.modules,
        "resource",
        SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=3_000_000)),
    )
    assert hardware.peak_memory(cpu) == 3
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=5_000_000))
    monkeypatch.setattr(hardware.psutil, "Process", lambda: memory)
    assert hardware.peak_memory(cpu) == 5


@pytest.mark.parametrize(
    ("system", "machine", "vectors", "int8"),
    [
        ("Windows", "AMD64", "AVX2", True),
        ("Windows", "AMD64", "DEFAULT", False),
        ("Darwin", "arm64", "DEFAULT", True),
        ("Darwin", "x86_64", "AVX512", True),
    ],
)
def test_instructions_where_the_system_lists_none(
    system: str, machine: str, vectors: str, int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    has: Any = instructions.__wrapped__
    assert (has("int8"), has("bf16")) == (int8, False)


def test_a_checkpoint_keeps_the_random_numbers_of_apples_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, given = set_up(tiny_config(tmp_path)), list[Any]()
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([7, 8], dtype=torch.uint8))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: given.append(state.tolist()))
    setup.device = torch.device("mps")  # the tensors lie on the CPU, as they do once they are copied for the file
    save_checkpoint(tmp_path, setup, Progress(step=3))
    assert load_checkpoint(tmp_path, setup) == Progress(step=3)
    assert given == [[7, 8]]
