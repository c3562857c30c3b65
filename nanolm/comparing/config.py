"""What `compare.py` can be told. In: plain values. Out: a checked CompareConfig. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Optional

from nanolm.config import one_of
from nanolm.errors import ConfigError


@dataclass
class CompareConfig:
    """Without `sweep` and `runs`: every run under `outputs`."""

    sweep: Optional[str] = None  # latest | a sweep's name | its folder; with source=wandb: the runs' group
    runs: Optional[str] = None  # run folders, as a glob: 'outputs/**'
    source: str = "folders"  # folders | wandb
    project: str = "nanolm"  # of W&B; or entity/project
    sort: str = "test_bpb"  # a column of compare.csv or a key of the config; -column: falling
    by: list[str] = field(default_factory=list)  # keys of the config to group by
    baselines: bool = True  # uniform, unigram, 5-gram, gzip, xz, floor: computed once per corpus and tokenizer
    outputs: str = "outputs"

    def __post_init__(self) -> None:
        one_of("source", self.source, ("folders", "wandb"))
        if self.runs is not None and (self.sweep is not None or self.source == "wandb"):
            raise ConfigError(f"runs={self.runs}: names folders; leave it out with sweep= or source=wandb")
