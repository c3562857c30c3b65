"""Imports go strictly downward: a room may import only rooms below it, and Hydra is known to two rooms alone."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELS = [
    {"cli"},
    {"app"},
    {"export", "comparing", "training"},
    {"sweep"},
    {"interpret"},
    {"generator"},
    {"scoring"},
    {"runs"},
    {"tracking"},
    {"corpus"},
    {"decode", "optim"},
    {"model"},
    {"tokenizer"},
    {"data"},
    {"web", "plots"},
    {"locks"},
    {"text", "files", "hardware", "spinning", "workers", "common_memory"},
    {"config"},
    {"errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nanolm" and len(parts) > 1 and parts[1] in LEVEL else None


def files() -> list[Path]:
    return [file for file in (ROOT / "nanolm").rglob("*.py") if file != ROOT / "nanolm" / "__init__.py"]


def test_every_room_has_its_level() -> None:
    rooms = {file.relative_to(ROOT / "nanolm").parts[0].removesuffix(".py") for file in files()}
    assert rooms <= set(LEVEL), f"add {rooms - set(LEVEL)} to LEVELS"


def test_imports_go_downward() -> None:
    wrong = []
    for file in files():
        room = file.relative_to(ROOT / "nanolm").parts[0].removesuffix(".py")
        for target in {room_of(name) for name in imported(file)} - {None, room}:
            if LEVEL[room] >= LEVEL[str(target)]:
                wrong.append(f"{file.relative_to(ROOT)} imports {target}, which is not below {room}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not for the sake of types, nor inside a function."""
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files()}
    targets = {name: imported(file) & set(names) for name, file in names.items()}
    while True:  # take away what imports nothing that is left; what can't be taken away is a circle
        free = {name for name in targets if not targets[name] & set(targets)}
        if not free:
            break
        targets = {name: targets[name] for name in set(targets) - free}
    assert not targets, f"a circle among {', '.join(sorted(targets))}"


def test_hydra_is_known_to_the_doors_alone() -> None:
    knows = {file.parent.name for file in files() if any(name.split(".")[0] == "hydra" for name in imported(file))}
    assert knows <= {"cli", "sweep"}


WITHOUT_THE_COMPILER = """
import sys
from pathlib import Path
import untrained
from nanolm.export.export import export
from nanolm.generator import load
from nanolm.training.plan import step_batches
from nanolm.training.progress import Progress
from nanolm.training.setup import set_up
from nanolm.training.step import Meter, take_step

place = Path(sys.argv[1])
run = untrained.run(place).folder
rounded = export(str(run), "int8", outputs=str(place / "out"))
for folder, quantize in ((run, None), (run, "int8"), (rounded, None)):
    load(folder, quantize=quantize).generate("the", "greedy", max_new_tokens=2)
for name in ("adam", "adamw", "muon"):
    setup = set_up(untrained.tiny_config(place, {"dropout": 0.1}, {"name": name}))
    take_step(setup, next(step_batches(setup, 0)), Progress(), 1, Meter())
    setup.optimizer.load_state_dict(setup.optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""


def test_starts_leave_torchs_compiler_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_THE_COMPILER, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NOT_FOR_A_LOOK = {"torch", "numpy", "pandas", "wandb", "matplotlib", "gradio", "tokenizers", "rich"}
NOT_FOR_A_LOOK |= {"psutil", "filelock", "multiprocessing", "csv", "urllib.request"}
NOT_FOR_A_LOOK |= {"nanolm.data.readers", "nanolm.sweep", "nanolm.runs", "nanolm.corpus", "nanolm.generator"}


LOOK = """
import runpy, sys
sys.argv = ["train.py", "--cfg", "job"]
runpy.run_path("train.py", run_name="__main__")
print(*sys.modules, file=sys.stderr)
"""


def test_a_look_at_the_configuration_imports_no_work() -> None:
    """Each would cost 2 to 1,000 ms of a third of a second, at every start."""
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert {"hydra", "nanolm.cli.door", "nanolm.data.files"} <= modules
    assert not NOT_FOR_A_LOOK & modules
