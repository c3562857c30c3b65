"""Runs for the tests of the page."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from untrained import run, tokenizer

from nanolm.app import write
from nanolm.app.models import Models
from nanolm.decode.base import DecodeConfig

NASTY = "</script><script>document.title='x'</script><img src=x onerror=\"document.title='x'\">${1+1}{{value}}@children"


def make_outputs(folder: Path) -> Path:
    """Two runs, `words` and `sweeps/signs`; the latter knows every sign of NASTY."""
    signs = tokenizer("char", "none").config.fit([NASTY] * 3, "none")
    for name, known in {"words": tokenizer(), "sweeps/signs": signs}.items():
        for place in (folder / name, (folder / "outputs" / name).parent):
            place.mkdir(parents=True, exist_ok=True)
        run(folder / name, known, context=24 if name == "words" else 200).folder.rename(folder / "outputs" / name)
    return folder / "outputs"


def written(models: Models, prompt: Any, *configs: DecodeConfig, run: str = "words", seed: Any = 1) -> Any:
    """What is shown at last: HTML, texts."""
    return list(write.write(models, run, prompt, configs, seed))[-1]


def wait(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """What the condition gives once it is true."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (WebDriverException, StopIteration):
            pass
        time.sleep(0.1)
    raise AssertionError("waited in vain")
