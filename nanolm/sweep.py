"""Sweeps that survive: each job of a multirun is a child process with its own folder, and none can stop the others.

In: the composed config of one job, from any Hydra launcher. Out: its val bits per byte (inf where it failed) for
Hydra's sweeper, a run folder named by the swept values and 8 hex digits of the config, and a table at the end.
Launched again into the same folder, finished jobs hand back their value, interrupted ones resume, failed ones start
anew.
"""

import fcntl
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from nanolm.complaint import one_line
from nanolm.config import NanolmError
from nanolm.files import fingerprint, write_atomic, write_json

NOT_THE_RESULT = (
    "outputs",
    "tracking",
    "run_name",
    "group",
    "tags",
    "threads",
    "resume",
)  # keys outside a job's identity
DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_agg")  # what `plots.py` imports late
STOP_SECONDS = 120.0  # what a job gets to save itself when the sweep is stopped
current: Path | None = None  # the sweep's folder, once Hydra has begun it


class Sweep(Callback):
    """Hydra's callback that notes what is swept; read by the jobs (on any machine) and by compare.py."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global current
        current = Path(config.hydra.sweep.dir)
        current.mkdir(parents=True, exist_ok=True)
        swept = set(map(str, OmegaConf.select(config, "hydra.sweeper.params") or {}))
        for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
            if override.is_sweep_override():
                swept.add(override.get_key_element())
        write_json(current / "sweep.json", {"swept": sorted(swept), "command": sys.argv, "started": time.time()})


@dataclass
class Job:
    """One job of a sweep: its folder, what is swept, and what its run folder's status says."""

    folder: Path
    status: dict[str, Any]

    @property
    def value(self) -> float:
        """Val bits per byte; inf unless finished."""
        value = self.status.get("val_bpb") if self.status.get("state") == "finished" else None
        return value if isinstance(value, float) and math.isfinite(value) else math.inf


def read_job(folder: Path) -> Job:
    """The job in `folder`; a missing or damaged status counts as none."""
    try:
        status = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        status = {}
    return Job(folder, status if isinstance(status, dict) else {})


def job_name(overrides: list[str], swept: list[str], values: dict[str, Any]) -> str:
    """`dims=128,heads=4-1f3a9c07`: the swept values, shortened, and 8 hex digits of the resolved config."""
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    shown = [f"{re.split('[./@]', key)[-1]}={_short(value)}" for key, value in pairs if not swept or key in swept]
    label = re.sub(r"[^\w=.,+-]+", "_", ",".join(shown), flags=re.ASCII)[:80]
    identity = {key: value for key, value in values.items() if key not in NOT_THE_RESULT}
    return f"{label or 'job'}-{fingerprint(identity)[:8]}"


def _short(value: str) -> str:
    """A long number in four figures: the name's last part tells jobs apart."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def run_job(node: DictConfig, verb: Callable[..., Any]) -> float:
    """Runs one job of a multirun to its end, whatever happens; returns its val bits per byte, inf where it failed.

    `verb` is the training, a function at some module's top level: `verb(config, overrides=[], folder=...)`.
    """
    hydra = HydraConfig.get()
    sweep, overrides = Path(hydra.sweep.dir), list(hydra.overrides.task)
    values: Any = OmegaConf.to_container(node, resolve=True)
    folder = sweep / job_name(overrides, json.loads((sweep / "sweep.json").read_text())["swept"], values)
    try:
        config: Any = OmegaConf.to_object(node)
        job = read_job(folder)
        if _is_done(job, config):
            return job.value
        threads = _threads(hydra.launcher)
        config = replace(
            config,
            group=config.group or sweep.name,
            run_name=config.run_name or folder.name,
            threads=config.threads or threads,
        )
        resume = job.status.get("state") in ("running", "interrupted") and _has_checkpoint(folder)
        if folder.exists() and not resume:
            shutil.rmtree(folder)
    except (NanolmError, OSError) as error:
        record_failure(folder, error)
        return math.inf
    if threads:  # a worker of joblib's, which would outlive a sweep that is killed
        _end_with(os.getppid())
    config, new = (replace(config, resume=str(folder)), None) if resume else (config, folder)
    _run_child(verb, config, new, folder, folder / "log.txt" if threads else None)
    job = read_job(folder)
    if threads:
        print(f"{folder.name}: {job.status.get('state')} {job.value:.4f} {job.status.get('error') or ''}", flush=True)
    return job.value


def record_failure(folder: Path, error: BaseException, state: str = "failed") -> None:
    """Leaves the key line in status.json and the traceback beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "traceback.txt", "".join(traceback.format_exception(error)))
    line = one_line(error) or type(error).__name__
    if not isinstance(error, NanolmError):
        line = f"{type(error).__name__}: {line}"
    write_json(folder / "status.json", read_job(folder).status | {"state": state, "error": line[:500]})


def _is_done(job: Job, config: Any) -> bool:
    """Finished, and on the documents that the config names today."""
    if math.isinf(job.value):
        return False
    from nanolm.corpus import load_corpus

    return load_corpus(config.data, Path(config.outputs) / "cache").fingerprint == job.status.get("corpus")


def _has_checkpoint(folder: Path) -> bool:
    from nanolm.run import Run

    return Run.resumable(folder)


def _threads(launcher: Any) -> int | None:
    """The cores divided among the jobs that run at once; None (torch's choice) where only one does."""
    jobs = int(launcher.get("n_jobs") or 1)
    cores = os.cpu_count() or 1
    return None if jobs == 1 else max(1, cores // (cores if jobs < 0 else jobs))


def _run_child(verb: Callable[..., Any], config: Any, new: Path | None, folder: Path, log: Path | None) -> None:
    """The job in a process forked from a server that has the heavy imports: what kills it kills nothing else."""
    multiprocessing.set_start_method("forkserver", force=True)  # in a joblib worker it is one that no child knows
    multiprocessing.set_forkserver_preload(["nanolm.training.train", "torch._dynamo", *DRAWING])
    child = multiprocessing.Process(target=_child, args=(os.getpid(), verb, config, new, folder, log), name=folder.name)
    child.start()
    child.join()
    state = read_job(folder).status.get("state")
    if child.exitcode and state not in ("failed", "interrupted"):
        cause = f"killed by signal {-child.exitcode}" if child.exitcode < 0 else f"ended with status {child.exitcode}"
        record_failure(folder, NanolmError(f"{cause}; the same sweep again goes on from there"), "interrupted")


def _child(
    parent: int, verb: Callable[..., Any], config: Any, new: Path | None, folder: Path, log: Path | None
) -> None:
    """In the child: trains; a failure is recorded in the folder. Jobs side by side speak into a `log` each."""
    _end_with(parent)
    pid = _pids(folder.parent) / f"{os.getpid()}"
    pid.parent.mkdir(exist_ok=True)
    held = open(pid, "w")  # noqa: SIM115 (locked while this process lives)
    fcntl.flock(held, fcntl.LOCK_EX)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        verb(config, overrides=[], folder=new)
    except Exception as error:
        record_failure(folder, error)
        raise SystemExit(1) from None


def _pids(sweep: Path) -> Path:
    """Where the jobs that this machine runs leave their process ids, each file locked while its process lives."""
    return sweep / f".running-{os.uname().nodename}"


def _stop_jobs(sweep: Path) -> None:
    """Asks every running job to save and stop, and waits for it."""
    end = time.monotonic() + STOP_SECONDS
    for file in _pids(sweep).glob("*"):
        with open(file) as held:
            asked = False
            while time.monotonic() < end:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not asked:
                        os.kill(int(file.name), signal.SIGTERM)
                        asked = True
                    time.sleep(0.1)
        file.unlink()


@cache
def _end_with(process: int) -> None:
    """Asks this process to save and stop once `process`, which it works for, is gone, however that went."""

    def watch() -> None:
        while True:
            time.sleep(0.5)
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def report(folder: Path) -> int:
    """Prints the table of the sweep's jobs; returns how many are neither done nor skipped."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    started = json.loads((folder / "sweep.json").read_text())["started"]
    table = Table(
        "job", "state", "val bits/byte", "time", "", title=f"sweep {escape(str(folder))}", title_justify="left"
    )
    counts: dict[str, int] = {}
    jobs = [read_job(file.parent) for file in folder.glob("*/status.json")]
    for job in sorted(jobs, key=lambda job: (job.value, job.folder.name)):
        state = str(job.status.get("state", "unknown"))
        if state == "finished":
            state = "done" if (job.folder / "status.json").stat().st_mtime >= started else "skipped"
        counts[state] = counts.get(state, 0) + 1
        value = f"{job.value:.4f}" if math.isfinite(job.value) else ""
        seconds = f"{job.status.get('seconds') or 0:.0f} s"
        table.add_row(escape(job.folder.name), state, value, seconds, escape(str(job.status.get("error") or "")))
    console = Console(highlight=False)
    console.print(table)
    failed = sum(count for state, count in counts.items() if state not in ("done", "skipped"))
    console.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if "skipped" in counts:
        console.print("skipped: finished before, with the same config and documents")
    if failed:
        console.print("the same command again runs those, and only those, that are not done")
    return failed


def guarded(sweep: Callable[[], Any]) -> None:
    """Runs a multirun and prints its table, also after ctrl-C, SIGTERM or a dead worker; exits 1 if a job failed."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # asked twice, ends at once
        if current:
            _stop_jobs(current)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    status = 0
    try:
        sweep()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        failed = report(current) if current else 0
    raise SystemExit(status or (1 if failed else 0))
