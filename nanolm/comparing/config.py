"""What `compare.py` can be told. In: plain values. Out: a checked CompareConfig. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Optional

from nanolm.config import between, knob, one_of
from nanolm.errors import ConfigError


@dataclass
class CompareConfig:
    """Without `sweep` and `runs`: every run under `outputs`."""

    sweep: Optional[str] = knob(None, "latest, a sweep's name or its folder; source=wandb: the runs' group", path=True)
    runs: Optional[str] = knob(None, "run folders, as a glob: 'outputs/**'", path=True)
    source: str = knob("folders", "folders | wandb")
    project: Optional[str] = knob(None, "of W&B, or entity/project; null: WANDB_PROJECT, else nanolm")
    sort: str = knob("val_bpb", "a column of compare.csv or a key of the config; -column: falling")
    by: list[str] = knob([], "keys of the config to group by")
    baselines: bool = knob(True, "uniform, unigram, 5-gram, gzip, xz, floor: computed once per corpus and tokenizer")
    ensemble: Optional[int] = knob(None, "so many seeds of each configuration also scored together, as one model")
    outputs: str = knob("outputs", "the folder of all runs", path=True)
    watch: bool = knob(False, "a live page on this machine, and a table that refreshes, until ctrl-c")
    port: Optional[int] = knob(None, "of that page; null: any free one")
    open: bool = knob(True, "that page in the browser")
    price_per_hour: Optional[float] = knob(None, "what an hour of this machine costs; a job pays its cores' share")

    def __post_init__(self) -> None:
        one_of("source", self.source, ("folders", "wandb"))
        between("price_per_hour", self.price_per_hour, 0)
        between("port", self.port, 1, 65535)
        between("ensemble", self.ensemble, 2)
        if self.ensemble and self.source == "wandb":
            raise ConfigError("ensemble: needs the weights in the run folders of this machine; leave source=wandb out")
        if self.watch and self.source == "wandb":
            raise ConfigError("watch=true: looks at the run folders of this machine; leave source=wandb out")
        if self.runs is not None and (self.sweep is not None or self.source == "wandb"):
            raise ConfigError(f"runs={self.runs}: names folders; leave it out with sweep= or source=wandb")
