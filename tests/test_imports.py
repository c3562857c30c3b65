"""Imports go strictly downward: a room may import only rooms below it, and Hydra is known to three files alone."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELS = [
    {"schema"},
    {"app", "space"},
    {"training", "comparing", "sweep", "attention", "export", "tokenizing", "evaluating", "generating"},
    {"generator"},
    {"baselines"},
    {"bits"},
    {"run", "tracking", "jobs"},
    {"corpus", "batches"},
    {"preparing"},
    {"decode", "optim", "model"},
    {"tokenizer"},
    {"data"},
    {"complaint", "plots", "page", "weights"},
    {"text", "files", "hardware", "cores"},
    {"config"},  # at the bottom, for its errors
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


def test_hydra_is_known_to_the_doors_alone() -> None:
    knows = {file.name for file in files() if any(name.split(".")[0] == "hydra" for name in imported(file))}
    assert knows <= {"schema.py", "sweep.py"}
