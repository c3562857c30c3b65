"""What each verb can be told: a dataclass per verb, and the options of every group in Hydra's store.

In: nothing. Out: types and defaults, which Hydra checks the YAML files against. Imports nothing heavy.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

from nanolm.comparing.config import CompareConfig
from nanolm.config import GROUPS, MISSING, options
from nanolm.data.base import DataConfig
from nanolm.decode.base import DecodeConfig
from nanolm.model.config import ModelConfig
from nanolm.tokenizer.base import TokenizerConfig
from nanolm.tracking.wandb import TrackingConfig
from nanolm.training.config import TrainConfig

CONF = str(Path(__file__).resolve().parents[2] / "conf")


@dataclass
class TokenizeConfig:
    """What tokenize.py takes."""

    data: DataConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    outputs: str = "outputs"


@dataclass
class RunConfig:
    """What every script takes that works with a run."""

    run: str = "latest"  # latest, best, or a run folder
    outputs: str = "outputs"
    device: str = "auto"


@dataclass
class GenerateConfig(RunConfig):
    """What generate.py takes; `prompt` arrives verbatim, never parsed by Hydra."""

    decode: DecodeConfig = MISSING
    prompt: Optional[str] = None  # None: asks
    seed: Optional[int] = None
    precision: str = "auto"
    quantize: Optional[str] = None  # bf16 | int8: of the weights


@dataclass
class EvaluateConfig(RunConfig):
    """What evaluate.py takes; without `data`, the run's own corpus."""

    data: Optional[DataConfig] = None
    split: str = "test"
    precision: str = "auto"
    quantize: Optional[str] = None  # bf16 | int8: of the weights


@dataclass
class AttendConfig(RunConfig):
    """What attend.py takes; `prompt` arrives verbatim. With `decode`, the text written after it is looked at too."""

    decode: Optional[DecodeConfig] = None
    prompt: Optional[str] = None
    seed: Optional[int] = None
    layer: int = 1  # of the large picture; counted from 1
    head: int = 1


@dataclass
class ExportConfig:
    """What export.py takes."""

    run: str = "latest"
    format: str = "hf"  # hf: for transformers | space: a web page for Hugging Face Spaces | int8: a small run folder
    folder: Optional[str] = None  # None: outputs/exports/<run>-<format>
    push: Optional[str] = None  # user/name: uploads the folder to Hugging Face
    outputs: str = "outputs"


@dataclass
class AppConfig(RunConfig):
    """What app.py takes."""

    host: str = "127.0.0.1"  # 0.0.0.0: everybody in the network can use it
    port: Optional[int] = None  # None: the first free one from 7860
    open: bool = True  # in the browser
    precision: str = "fp32"  # auto: bf16 where the machine has it; its probabilities are rounder


VERBS: dict[str, type] = {"tokenize": TokenizeConfig, "train": TrainConfig, "generate": GenerateConfig}


VERBS |= {"evaluate": EvaluateConfig, "compare": CompareConfig, "attend": AttendConfig}


VERBS |= {"export": ExportConfig, "app": AppConfig}


def choices(group: str) -> str:
    """The options of a group as `a | b | c`, for the help texts."""
    return " | ".join(sorted(file.stem for file in Path(CONF, group).glob("*.yaml")))


def with_options(header: str) -> str:
    """A help text with `{group}` filled in: as an interpolation each of them would cost every start 2 ms."""
    return re.sub(r"\{(\w+)\}", lambda found: choices(found[1]), header)


class Schemas(dict[str, Any]):
    """One group of Hydra's store, whose `store` would turn every dataclass into a config, 2 ms each, at every start.
    Here a class becomes one when it is asked for; most never are."""

    def __getitem__(self, name: str) -> Any:
        node = super().__getitem__(name)
        if isinstance(node, type):
            node = self[name] = ConfigNode(name, OmegaConf.structured(node), None, None, "schema")
        return node


def register() -> None:
    """Puts every dataclass into Hydra's store: the verbs' under `schema/verb`, options under `schema/<group>`."""
    OmegaConf.register_new_resolver("with_options", with_options, replace=True)
    tables = {group: options(group) for group in GROUPS}
    tables |= {"verb": VERBS, "model": {"transformer": ModelConfig}, "tracking": {"wandb": TrackingConfig}}
    schema = {group: Schemas({f"{name}.yaml": cls for name, cls in table.items()}) for group, table in tables.items()}
    ConfigStore.instance().repo["schema"] = schema
