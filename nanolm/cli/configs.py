"""What each verb can be told: a dataclass per verb, and the options of every group in Hydra's store.

In: nothing. Out: types and defaults, which Hydra checks the YAML files against. Imports nothing heavy.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from nanolm.comparing.config import CompareConfig
from nanolm.config import GROUPS, MISSING, knob, options
from nanolm.data.base import DataConfig
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.tokenizer.base import TokenizerConfig
from nanolm.tracking.wandb import environment_mode
from nanolm.training.config import TrainConfig
from nanolm.web.guard import is_loopback

CONF = str(Path(__file__).resolve().parents[2] / "conf")


@dataclass
class TokenizeConfig:
    """What tokenize.py takes."""

    data: DataConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    outputs: str = knob("outputs", "the folder of all runs", path=True)


@dataclass
class RunConfig:
    """What every script takes that works with a run."""

    run: str = knob("latest", "latest | best | a run folder", path=True)
    outputs: str = knob("outputs", "the folder of all runs", path=True)
    device: str = knob("auto", "auto | cpu | cuda | cuda:1 | mps")


@dataclass
class GenerateConfig(RunConfig):
    """What generate.py takes; `prompt` arrives verbatim, never parsed by Hydra."""

    decode: DecodeConfig = MISSING
    prompt: Optional[str] = knob(None, "what the text goes on from; null: asks")
    seed: Optional[int] = knob(None, "equal seeds, equal texts; null: a new one each time")
    precision: str = knob("auto", "auto | fp32 | bf16; auto: bf16 where the machine multiplies in it")
    quantize: Optional[str] = knob(None, "bf16 | int8: of the weights")
    recorded: bool = knob(True, "long texts on a CPU by recorded steps where weights are int8 or bf16: faster")
    output: str = knob("text", "text | jsonl: for programs, a line for each text with tokens and logprob")


@dataclass
class EvaluateConfig(RunConfig):
    """What evaluate.py takes; without `data`, the run's own corpus."""

    data: Optional[DataConfig] = None
    split: str = knob("test", "train | val | test: of the run's own documents")
    path: Any = knob(None, "the run's own text, where it lies now; data.path= without data= means it too", path=True)
    benchmark: Optional[str] = knob(
        None, "a jsonl of minimal pairs (good, bad, field ...), as BLiMP's, or tinyplots", path=True
    )
    checkpoints: bool = knob(False, "with benchmark=: over those that keep_every has kept, too, as a curve")
    precision: str = knob("fp32", "fp32 | bf16: such scores compare with each other only")
    quantize: Optional[str] = knob(None, "bf16 | int8: of the weights")


@dataclass
class AttendConfig(RunConfig):
    """What attend.py takes; `prompt` arrives verbatim. With `decode`, the text written after it is looked at too."""

    decode: Optional[DecodeConfig] = None
    prompt: Optional[str] = knob(None, "the text to look at; with decode, what is written after it too")
    seed: Optional[int] = knob(None, "equal seeds, equal texts; null: a new one each time")
    layer: int = knob(1, "of the large picture; counted from 1")
    head: int = knob(1, "of the large picture; counted from 1")


@dataclass
class LookConfig(RunConfig):
    """What look.py takes; `prompt` arrives verbatim. With `decode`, the text written after it is looked at too."""

    decode: Optional[DecodeConfig] = None
    prompt: Optional[str] = knob(None, "the text to look at; with decode, what is written after it too")
    seed: Optional[int] = knob(None, "equal seeds, equal texts; null: a new one each time")
    documents: int = knob(20, "of val, on which each head and MLP is switched off in turn; 0: none")
    map: str = knob("pca", "pca | tsne | umap: of the words; the latter two beside the first")
    repeat: str = knob("random", "random | text: written twice, where the heads are scored")


@dataclass
class ExportConfig:
    """What export.py takes."""

    run: str = knob("latest", "latest | best | a run folder", path=True)
    format: str = knob("hf", "hf | gguf | onnx | web | space | int8: docs/tools.md says for whom")
    folder: Optional[str] = knob(None, "where to; null: outputs/exports/<run>-<format>", path=True)
    push: Optional[str] = knob(None, "user/name: uploads the folder to Hugging Face")
    runtime: Optional[str] = knob(None, "format=web: npm's onnxruntime-web, unpacked; null: fetched", path=True)
    outputs: str = knob("outputs", "the folder of all runs", path=True)


@dataclass
class AppConfig(RunConfig):
    """What app.py takes."""

    host: str = knob("127.0.0.1", "0.0.0.0: everybody in the network can reach it")
    port: Optional[int] = knob(None, "null: the first free one from 7860")
    open: bool = knob(True, "in the browser")
    precision: str = knob("fp32", "auto | fp32 | bf16: in bf16 probabilities are rounder")
    auth: Optional[str] = knob(None, "user:password, asked of everybody; open: nobody is asked, whatever the host")

    def __post_init__(self) -> None:
        user, _, password = (self.auth or "").partition(":")
        if self.auth not in (None, "open") and not (user and password):
            raise ConfigError("auth: must be user:password, or open")
        if self.auth is None and not is_loopback(self.host):
            mend = "give auth=user:password, or auth=open if that is meant"
            raise ConfigError(f"host={self.host}: everybody in the network could use the page; {mend}")


VERBS: dict[str, type] = {
    "tokenize": TokenizeConfig,
    "train": TrainConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "attend": AttendConfig,
    "look": LookConfig,
    "export": ExportConfig,
    "app": AppConfig,
}


def schemas() -> dict[str, dict[str, type]]:
    """The dataclass of each option, by group and name; the verbs are a group of their own, `verb`."""
    tables = {group: options(group) for group in GROUPS}
    return tables | {"verb": VERBS, "model": {"transformer": ModelConfig}}


def choices(group: str) -> str:
    """The options of a group as `a | b | c`, for the help texts."""
    return " | ".join(sorted(file.stem for file in Path(CONF, group).glob("*.yaml")))


def option_classes(group: str) -> dict[str, type]:
    """The dataclass behind each option of a group, presets too, as the files in conf/ say."""
    table: dict[str, type] = {}
    for file in sorted(Path(CONF, group).glob("*.yaml")):
        if found := re.search(rf"- /schema/{group}/(\w+)@_here_", file.read_text("utf-8")):
            table[file.stem] = schemas()[group][found[1]]
    return table


def register(verbs: Iterable[str] = tuple(VERBS)) -> None:
    """Puts the dataclasses of verbs and their groups into Hydra's store as `schema/<group>/<name>`, so that they
    are no options themselves. Hydra copies all that is there at each start."""
    OmegaConf.register_new_resolver("wandb_mode", environment_mode, replace=True)
    store, tables = ConfigStore.instance(), schemas()
    for verb in verbs:
        store.store(verb, VERBS[verb], group="schema/verb")
    for group in {field.name for verb in verbs for field in fields(VERBS[verb])} & set(tables):
        for name, cls in tables[group].items():
            store.store(name, cls, group=f"schema/{group}")
