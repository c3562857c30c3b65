"""The processes of one run, as `torchrun` starts them: which one this is, what they agree on, and who has gone.

In: torchrun's environment variables. Out: sums over all ranks, words of the first rank, a RunError that names a rank
that ended. Sums travel by gloo between CPUs, by nccl between GPUs. Alone, everything here costs nothing. Knows no
model and no run.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nanolm.errors import ConfigError, DataError, NanolmError, RunError
from nanolm.training.heartbeat import Heartbeat

STEP_LIMIT = timedelta(seconds=50)  # a rank that others wait for longer in a step has gone
JOIN_LIMIT = timedelta(minutes=10)
GLOO = ("gloo", "pair closure")  # a word of its errors, which are plain RuntimeErrors; the second when others wait too
KEY = "nanolm"  # of what is kept at torchrun's store over restarts

_store: dist.Store | None = None  # torchrun's small table, which all ranks read and write
_heart: Heartbeat | None = None
_calls = 0  # of functions that wait, so that each has a key of its own


def world_size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the first, which alone writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_launched() -> bool:
    """Whether torchrun, or what sets its variables, started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Joins the other processes, where there are any; those but the first are silent. Raises ConfigError, RunError."""
    global _store, _heart
    if not is_launched():
        yield
        return
    this, world, attempt = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), _restarts()
    _store, beating = _connect(hosts=this == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True")
    _heart, ended_by = Heartbeat(_store, beating, f"{KEY}/{attempt}", this, world), None
    try:
        with _silent_unless(this == 0):
            backend = _backend(device)
            wait_for_all()
            how = {"store": dist.PrefixStore(f"{KEY}/{attempt}", _store), "rank": this, "world_size": world}
            with _unreachable_is_an_error():
                dist.init_process_group(backend, timeout=STEP_LIMIT, **how)
            yield
    except Exception as error:
        ended_by = error
        alike = isinstance(error, ConfigError | DataError)  # mostly the same for all: the first rank's door says it
        if isinstance(error, NanolmError) and this > 0 and not alike and getattr(error, "speaks", True):
            print(f"train.py: {error}", file=sys.__stderr__)
        raise
    finally:
        _heart.stop(ended_by)
        if dist.is_initialized():
            with suppress(RuntimeError):  # of a group that has fallen apart
                dist.destroy_process_group()
        _store = _heart = None


def _connect(hosts: bool) -> tuple[dist.Store, dist.Store]:
    """Two connections to the store of all processes, which is at the first one's if that `hosts` it."""
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with _unreachable_is_an_error():
        first = dist.TCPStore(*where, is_master=hosts, timeout=JOIN_LIMIT, wait_for_workers=False)
        return first, dist.TCPStore(*where, is_master=False, timeout=JOIN_LIMIT)


@contextmanager
def _unreachable_is_an_error() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(f"the other processes can't be reached at {where} ({error})") from error


def _backend(device: str) -> str:
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={device}: torchrun gives each process a device of its own; take auto, cpu or cuda")
    if device == "cuda" and not gpus:
        raise ConfigError("device=cuda: this machine has no GPU that torch can use; take device=cpu")
    if gpus and device != "cpu" and local > gpus:
        raise ConfigError(f"{local} processes on a machine with {gpus} GPUs: start fewer, or set device=cpu")
    return "cpu:gloo,cuda:nccl" if gpus else "gloo"


@contextmanager
def _silent_unless(heard: bool) -> Iterator[None]:
    if heard:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def local_device(device: torch.device) -> torch.device:
    """The device of this rank: on a machine with several GPUs, its own."""
    if world_size() == 1 or device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


def add_up(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def largest(number: int) -> int:
    """The largest of all ranks' numbers."""
    if world_size() == 1:
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def from_first(value: Any) -> Any:
    """The first rank's JSON-able value, on every rank; also waits until the first has come here. Raises RankGone."""
    global _calls
    if _store is None or _heart is None:
        return value
    _calls += 1
    key = f"{KEY}/{_restarts()}/said/{_calls}"
    if rank() == 0:
        _store.set(key, json.dumps(value))
    _heart.wait([key])
    return json.loads(_store.get(key))


def wait_for_all() -> None:
    """Until every rank has come here, for as long as it takes. Raises RankGone."""
    global _calls
    if _store is not None and _heart is not None:
        _calls += 1
        key = f"{KEY}/{_restarts()}/there/{_calls}"
        _store.set(f"{key}/{_heart.rank}", "")
        _heart.wait([f"{key}/{other}" for other in _heart.everybody])


def remember_run(folder: str) -> None:
    """Keeps the folder of the run for a restart of all processes by torchrun (`--max-restarts`)."""
    if _store is not None:
        _store.set(f"{KEY}/folder", folder)


def remembered_run() -> str | None:
    """The folder of the run that these processes were restarted for."""
    if _store is None or not _restarts() or not _store.check([f"{KEY}/folder"]):
        return None
    return _store.get(f"{KEY}/folder").decode()


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def connected() -> Iterator[None]:
    """Inside, that another rank has gone is a RunError which names it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or any(one in str(error) for one in GLOO)):
            raise
        assert _heart is not None
        raise _heart.who_has_gone() from error
