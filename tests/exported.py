"""Runs exported, for the tests of exports."""

from pathlib import Path
from typing import Any

import untrained

from nanolm.export.export import export

ROOT = Path(__file__).resolve().parent.parent
STOCK: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3-untied-grouped": {"tied": False, "heads": 4, "kv_heads": 2},
    "llama": {"qk_norm": False},
    "llama-untied-hidden": {"qk_norm": False, "tied": False, "hidden": 40, "heads": 4, "kv_heads": 1},
}


def out(folder: Path, kind: str = "hf", **model: Any) -> Path:
    """The export of an untrained run."""
    untrained.run(folder, **model)
    return export("latest", kind, outputs=str(folder / "out"))
