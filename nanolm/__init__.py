"""nanolm: a lab bench for nano-sized language models. `nanolm.load("outputs/...").generate("the army general")`."""

from pathlib import Path
from typing import Any, Union

__version__ = "0.1.0"
__all__ = ["load"]


def load(run: Union[str, Path] = "latest", **options: Any) -> Any:
    """A `Generator` over the run folder `run` (a path, `latest` or `best`); see `nanolm.generator.load`."""
    from nanolm.generator import load

    return load(run, **options)
