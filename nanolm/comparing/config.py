"""What `compare.py` can be told. In: plain values. Out: a checked CompareConfig. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Optional

from nanolm.config import knob, one_of
from nanolm.errors import ConfigError


@dataclass
class CompareConfig:
    """Without `sweep` and `runs`: every run under `outputs`."""

    sweep: Optional[str] = knob(None, "latest, a sweep's name or its folder; source=wandb: the runs' group", path=True)
    runs: Optional[str] = knob(None, "run folders, as a glob: 'outputs/**'", path=True)
    source: str = knob("folders", "folders | wandb")
    project: str = knob("nanolm", "of W&B; or entity/project")
    sort: str = knob("val_bpb", "a column of compare.csv or a key of the config; -column: falling")
    by: list[str] = knob([], "keys of the config to group by")
    baselines: bool = knob(True, "uniform, unigram, 5-gram, gzip, xz, floor: computed once per corpus and tokenizer")
    outputs: str = knob("outputs", "the folder of all runs", path=True)

    def __post_init__(self) -> None:
        one_of("source", self.source, ("folders", "wandb"))
        if self.runs is not None and (self.sweep is not None or self.source == "wandb"):
            raise ConfigError(f"runs={self.runs}: names folders; leave it out with sweep= or source=wandb")
