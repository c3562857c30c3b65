"""`tracking=online`: Weights & Biases in the browser while the run trains; needs `wandb login`.

Where there is no account, or no server that answers, the whole run is tracked offline, with a word.
"""

import netrc
import os
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import urlsplit

from nanolm.tracking.base import Logger, RunInfo, warn
from nanolm.tracking.wandb import WandbConfig, WandbLogger


@dataclass
class Online(WandbConfig):
    """A run of your account's."""

    name: str = "online"
    uploads: ClassVar[bool] = True

    def logger(self, run: RunInfo) -> Logger:
        if not has_account():
            warn("no W&B account found (`wandb login` makes it known): tracked offline")
            return WandbLogger(self, run, "offline")
        try:
            return WandbLogger(self, run, "online")
        except Exception as error:
            warn(f"W&B can't be reached ({type(error).__name__}): tracked offline, `wandb sync` uploads it later")
        return WandbLogger(self, replace(run, id=f"{run.id}-offline"), "offline")  # W&B keeps the other id in use


def has_account() -> bool:
    """Whether W&B would find a key without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
