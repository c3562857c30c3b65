"""What W&B would refuse is said before work starts; which option its environment variables choose."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from tiny_run import tiny_config

from nanolm.cli.configs import CONF, register
from nanolm.config import build
from nanolm.errors import ConfigError
from nanolm.tracking.base import TrackingConfig
from nanolm.tracking.offline import Offline
from nanolm.tracking.online import Online
from nanolm.tracking.wandb import LONGEST_NAME, LONGEST_TAG, REFUSED
from nanolm.training.train import train

pytestmark = pytest.mark.usefixtures("no_wandb_account")


@pytest.mark.parametrize(
    ("config", "about", "key"),
    [
        (Offline(), {"tags": ["t" * (LONGEST_TAG + 1)]}, "tags="),
        (Offline(), {"tags": ["fine", ""]}, "tags="),
        (Offline(project="me/nanolm"), {}, "tracking.project=me/nanolm"),
        (Online(project=""), {}, "tracking.project="),
        (Online(entity="me/nanolm"), {}, "tracking.entity="),
        (Online(project="p" * (LONGEST_NAME + 1)), {}, "tracking.project="),
        (Offline(), {"group": "g" * (LONGEST_NAME + 1)}, "group="),
        (Offline(), {"run_name": "n" * (LONGEST_NAME + 1)}, "run_name="),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_work_starts(
    tmp_path: Path, config: TrackingConfig, about: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}"):
        train(tiny_config(tmp_path, tracking=config, **about))
    assert not (tmp_path / "out").exists()
    train_free = build("tracking", {"name": "disabled"})
    train_free.check(about.get("tags", []), group=about.get("group"))


def test_a_project_from_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(ConfigError, match="WANDB_PROJECT=a/b"):
        Offline().check([])
    Offline(project="mine").check([])


@pytest.mark.parametrize(
    ("variable", "words", "option"),
    [
        (None, [], "offline"),
        ("", [], "offline"),
        ("disabled", [], "disabled"),
        ("dryrun", [], "offline"),
        ("online", [], "online"),
        ("online", ["tracking=offline"], "offline"),
        ("disabled", ["tracking=tensorboard"], "tensorboard"),
    ],
)
def test_wandb_mode_counts_where_no_option_is_named(
    variable: str | None, words: list[str], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        assert compose("train", words).tracking.name == option


@pytest.mark.parametrize("char", [*REFUSED, "-", ".", " ", "é"])
def test_wandb_refuses_the_same_projects(char: str) -> None:
    refuses = pytest.importorskip("wandb").Settings

    def taken(check: Any) -> bool:
        try:
            check()
        except Exception:
            return False
        return True

    assert taken(lambda: refuses(project=f"a{char}b")) == taken(lambda: Offline(project=f"a{char}b").check([]))
    tag = char * LONGEST_TAG
    assert taken(lambda: refuses(run_tags=(tag,)))
    assert not taken(lambda: refuses(run_tags=(tag + char,)))
    Offline().check([tag])
