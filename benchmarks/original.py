"""What an epoch of `experiment=original` costs as the original ran it, and as nanolm runs it.

The original shuffled its documents, padded every one to maxlen, and ran eagerly in fp32. In: words for train.py,
such as data.path=... and data.limit=9252. Out: a table of real tokens per second, and the minutes of an epoch.
"""

import sys
import tempfile

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from timer import MOVIES, compare, machine

from nanolm.cli.configs import register
from nanolm.training.config import TrainConfig
from nanolm.training.setup import set_up
from train import ROOT, ours, upcoming

FILMS = ["data=movie_plots", f"data.path={MOVIES}", "data.limit=9252"]


def main(words: list[str]) -> None:
    machine("The original")
    register()
    with tempfile.TemporaryDirectory() as place, initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ["experiment=original", "precision=fp32", f"outputs={place}", *(words or FILMS)]
        config = OmegaConf.to_object(compose("train", overrides=words))
        assert isinstance(config, TrainConfig)
        setup, again, compiled = (set_up(config) for _ in range(3))
        ways = {"padded to the context, in random order, eager": ours(setup, upcoming(setup, False, setup.context))}
        ways["bucketed, eager"] = ours(again, upcoming(again))
        ways["bucketed, compiled"] = ours(compiled, upcoming(compiled), compiled=True)
        print(f"\n{setup.corpus.summary()}; batches of {config.batch_size}, context {setup.context}")
        rates = compare(ways, "tokens/s")
        print("\nMinutes of an epoch:", end=" ")
        print(", ".join(f"{name} {setup.batches.tokens / rate / 60:.1f}" for name, rate in rates.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
