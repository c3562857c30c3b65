"""One job by several processes, as submitit starts them on one machine or many (`nodes`, `tasks_per_node`).

In: submitit's environment. Out: which rank this is, what the first one says to all, torch's variables for the process
that trains. The first one's process hosts the store that all ranks meet at, as torchrun does. Knows no config.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nanolm.errors import NanolmError, one_line

if TYPE_CHECKING:
    from torch.distributed import TCPStore

KEY = "nanolm/job"
LIMIT = timedelta(minutes=10)  # for all to come
ENDING = timedelta(seconds=20)  # for all to end once the first has
DECIDING = timedelta(days=1)  # the first may have to read the text
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def are_several(launcher: Any) -> bool:
    """Whether the launcher starts a job as several processes."""
    return int(launcher.get("nodes") or 1) * int(launcher.get("tasks_per_node") or 1) > 1


@dataclass
class Ranks:
    """The processes of this job. `variables`: of torch.distributed, for the process that trains."""

    rank: int
    world_size: int
    variables: dict[str, str]
    store: "TCPStore"

    def tell(self, said: Any) -> None:
        """The first one's word to all, JSON-able."""
        self.store.set(f"{KEY}/said", json.dumps(said))

    def told(self) -> Any:
        """What the first one says, once it does; RuntimeError where it has gone."""
        self.store.wait([f"{KEY}/said"], DECIDING)
        return json.loads(self.store.get(f"{KEY}/said"))


@contextmanager
def joined() -> Iterator[Ranks]:
    """All processes of this job; the first, at whose store they meet, waits for the others at the end.

    Raises NanolmError where they can't meet, or have lost the first.
    """
    from submitit.helpers import TorchDistributedEnvironment
    from torch.distributed import TCPStore

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    variables = {name: os.environ[name] for name in VARIABLES} | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    rank, world_size = int(variables["RANK"]), int(variables["WORLD_SIZE"])
    where = variables["MASTER_ADDR"], int(variables["MASTER_PORT"])
    try:
        store = TCPStore(*where, is_master=rank == 0, timeout=LIMIT, wait_for_workers=False)
        store.set(f"{KEY}/there/{rank}", "")
        yield Ranks(rank, world_size, variables, store)
        if rank == 0:
            store.wait([f"{KEY}/there/{other}" for other in range(world_size)], LIMIT)
    except RuntimeError as error:
        line = f"the processes of the job can't meet at {where[0]}:{where[1]} ({one_line(error)})"
        raise NanolmError(line) from error
    with suppress(RuntimeError):  # one that was killed never ends
        store.set(f"{KEY}/ended/{rank}", "")
        if rank == 0:
            store.wait([f"{KEY}/ended/{other}" for other in range(world_size)], ENDING)
