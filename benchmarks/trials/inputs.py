"""Generated input: what tests/inputs.py checks, in thousands; and wrong words for every key of every verb.

In: how many cases. Out: a Count, with how many were taken and how many refused.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import CONTENT, FIELDS, FILES, HEADS, KNOBS, TOKENIZERS, VALUES, check_field, check_text
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nanolm.cli.arguments import ready
from nanolm.cli.configs import CONF, register
from nanolm.errors import NanolmError, one_line
from trials.count import Count

WORDS = ("abc", "-1", "1e400", "nan", "[1,{a:2}]", "{a: 1}", "true", "''")


def counted(count: Count, what: str, check: Callable[..., bool], seen: Counter[str]) -> Callable[..., None]:
    """`check` as a trial that never raises."""

    def trial(**case: Any) -> None:
        try:
            seen[f"{what} taken" if check(**case) else f"{what} refused"] += 1
            count.add("", [])
        except Exception as error:
            count.add(f"{what} {str(case)[:400]}", [f"{type(error).__name__}: {error}"])

    return trial


def inputs(count: Count, folder: Path, trials: int, seed: int) -> None:
    """Two thirds fields, a third files, and the composed configuration of every verb."""
    seen: Counter[str] = Counter()
    how: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else folder) as place:
        fields = counted(count, "field", check_field, seen)
        settings(max_examples=trials * 2 // 3, **how)(given(case=st.sampled_from(FIELDS), value=VALUES)(fields))()
        files = counted(count, "file", lambda **case: check_text(Path(place), **case), seen)
        parts = {"content": CONTENT, "name": FILES, "head": HEADS, "knobs": KNOBS, "words": TOKENIZERS}
        settings(max_examples=trials // 3, **how)(given(**parts)(files))()
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        for verb in sorted(path.stem for path in Path(CONF).glob("*.yaml") if path.stem != "door"):
            for key in keys(compose(verb)):
                for word in WORDS:
                    composed(count, verb, f"{key}={word}", seen)
    count.note = ", ".join(f"{number:,} {what}" for what, number in sorted(seen.items()))


def keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Every key of a composed configuration, groups' fields by their dotted names."""
    found = []
    for key in map(str, config):
        value = None if OmegaConf.is_missing(config, key) else config[key]
        found += keys(value, f"{prefix}{key}.") if isinstance(value, DictConfig) else [f"{prefix}{key}"]
    return found


def composed(count: Count, verb: str, override: str, seen: Counter[str]) -> None:
    """The door's way with one override: a checked dataclass, or one line that names the key."""
    key = override.partition("=")[0]
    refusals: tuple[type[Exception], ...] = (NanolmError, OmegaConfBaseException, *hydra_errors())
    try:
        OmegaConf.to_object(compose(verb, overrides=ready(verb, [override])))
        seen["override taken"] += 1
        count.add("", [])
    except refusals as error:
        line = one_line(error)
        seen["override refused"] += 1
        named = key.split(".")[-1] in line
        count.add(f"{verb}: {override}", [] if "\n" not in line and named else [f"says: {line[:200]}"])
    except Exception as error:
        count.add(f"{verb}: {override}", [f"{type(error).__name__}: {error}"])


def hydra_errors() -> tuple[type[Exception], ...]:
    from hydra.errors import HydraException

    return (HydraException,)
