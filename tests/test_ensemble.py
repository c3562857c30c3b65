"""compare.py ensemble=N: seeds of one configuration scored together."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import tiny_config

from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.corpus.corpus import encode_corpus
from nanolm.errors import ConfigError
from nanolm.runs.run import Run
from nanolm.scoring.score import encoded_nats
from nanolm.training.train import train


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one configuration's two seeds."""
    place = tmp_path_factory.mktemp("seeds")
    for seed in (1, 2):
        train(tiny_config(place, seed=seed), folder=place / "out" / f"seed{seed}")
    return place / "out"


def test_averaged_probabilities_are_scored_as_one_model(seeds: Path) -> None:
    page = compare(CompareConfig(outputs=str(seeds), ensemble=2, baselines=False))
    rows = pd.read_csv(page.parent / "compare.csv")
    (one,), (averaged,) = (rows[rows["runs"].notna() == known].to_dict("records") for known in (True, False))
    runs = [Run.open(seeds / f"seed{seed}") for seed in (1, 2)]
    corpus = runs[0].corpus(seeds / "cache")
    encoded = encode_corpus(corpus, runs[0].tokenizer(), seeds / "cache")["test"]
    each = [encoded_nats(model, encoded, model.context, model.device) for model in (run.model() for run in runs)]
    gain = np.mean(each, 0).sum() + np.log(np.mean([np.exp(-nats.astype(float)) for nats in each], 0)).sum()
    assert gain > 0  # Jensen's inequality
    bits = gain / math.log(2) / corpus.nbytes("test").sum()
    assert averaged["rank"] == "2 averaged"
    assert averaged["test_bpb"] == pytest.approx(one["test_bpb"] - bits, abs=1e-6)
    assert averaged["val_bpb"] < one["val_bpb"]
    assert one["runs"] == 2


def test_too_few_seeds_are_told(seeds: Path) -> None:
    with pytest.raises(ConfigError, match=r"ensemble=3: no configuration here has more than 2 seeds; train more"):
        compare(CompareConfig(outputs=str(seeds), ensemble=3, baselines=False))
    (seeds / "alone").mkdir()
    (seeds / "alone" / "status.json").write_text('{"state": "failed", "error": "too large"}')
    with pytest.raises(ConfigError, match="no configuration here has more than 0 seeds"):
        compare(CompareConfig(runs=str(seeds / "alone"), ensemble=2))
    with pytest.raises(ConfigError, match="source=wandb"):
        CompareConfig(source="wandb", ensemble=2)
