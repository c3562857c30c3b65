"""Sweeps that survive: each job of a multirun is a child process with its own folder, and none can stop the others.

In: the composed config of one job, from any Hydra launcher. Out: its val bits per byte (inf where it failed) for
Hydra's sweeper, a run folder named by the swept values and 8 hex digits of the config, and a table at the end.
Launched again into the same folder, finished jobs hand back their value, interrupted ones resume, failed ones start
anew.
"""

import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nanolm.errors import ConfigError, NanolmError, one_line
from nanolm.locks import try_lock
from nanolm.sweep import callback
from nanolm.sweep.callback import STOP
from nanolm.sweep.jobs import BEGUN, NOTE, Job, job_name, record_failure, report

HEAVY = ["nanolm.training.train", "nanolm.cli.door", "nanolm.sweep.launch", "nanolm.generator", "torch._dynamo"]
HEAVY += ["matplotlib.figure", "matplotlib.backends.backend_agg"]  # what `plots.py` imports late
STOP_SECONDS = 120.0  # what they get for it


def run_job(node: DictConfig, verb: Callable[..., Any]) -> float:
    """Runs one job of a multirun to its end, whatever happens; returns its val bits per byte, inf where it failed.

    `verb` is the training, a function at some module's top level: `verb(config, overrides=[], folder=...)`.
    """
    hydra = HydraConfig.get()
    sweep, overrides = Path(hydra.sweep.dir), list(hydra.overrides.task)
    if (sweep / STOP).exists():
        return math.inf
    values: Any = OmegaConf.to_container(node, resolve=True)
    folder = sweep / job_name(overrides, json.loads((sweep / NOTE).read_text())["swept"], values)
    (sweep / BEGUN / folder.name).touch()
    side_by_side = "n_jobs" in hydra.launcher  # workers of joblib's, in one terminal
    try:
        config: Any = OmegaConf.to_object(node)
        job = Job.read(folder)
        if _is_done(job, config):
            return job.value
        name, threads = config.run_name or folder.name, config.threads or _threads(hydra.launcher)
        config = replace(config, group=config.group or sweep.name, run_name=name, threads=threads)
        resume = job.status.get("state") in ("running", "interrupted") and (folder / "manifest.json").exists()
        if config.init in ("latest", "best"):
            raise ConfigError(f"init={config.init}: changes while a sweep runs; give the run's folder")
        if folder.exists() and not math.isinf(job.value):  # on other documents than today's
            folder.rename(folder.with_name(f"{folder.name}-before-{time.time():.0f}"))
        elif folder.exists() and not resume:
            shutil.rmtree(folder)
    except (NanolmError, OSError) as error:
        if math.isinf(Job.read(folder).value):
            record_failure(folder, error)
        else:
            print(f"{folder}: is finished and left as it is: {one_line(error)}", file=sys.stderr)
        return math.inf
    if side_by_side:  # they would outlive a sweep that is killed
        _end_with(os.getppid())
    config, new = (replace(config, resume=str(folder)), None) if resume else (config, folder)
    work = partial(verb, config, overrides=[], folder=new)
    _run_child(work, folder, folder / "log.txt" if side_by_side else None)
    job = Job.read(folder)
    if side_by_side:
        print(f"{folder.name}: {job.status.get('state')} {job.value:.4f} {job.status.get('error') or ''}", flush=True)
    return job.value


def _is_done(job: Job, config: Any) -> bool:
    """Finished, and on the documents that the config names today."""
    if math.isinf(job.value):
        return False
    from nanolm.corpus.corpus import load_corpus

    return load_corpus(config.data, Path(config.outputs) / "cache").fingerprint == job.status.get("corpus")


def _threads(launcher: Any) -> int | None:
    """The cores divided among joblib's jobs, or those asked of Slurm; None (torch's choice) where one job has all."""
    jobs, cores = int(launcher.get("n_jobs") or 1), os.cpu_count() or 1
    if jobs == 1:
        return launcher.get("cpus_per_task")
    return max(1, cores // (jobs if jobs > 0 else max(1, cores + 1 + jobs)))


def _run_child(work: Callable[[], Any], folder: Path, log: Path | None) -> None:
    """The job in a process forked from a server that has the heavy imports: what kills it kills nothing else."""
    multiprocessing.set_start_method("forkserver", force=True)  # in a joblib worker it is one that no child knows
    multiprocessing.set_forkserver_preload(HEAVY)
    child = multiprocessing.Process(target=_child, args=(os.getpid(), work, folder, log), name=folder.name)
    child.start()
    child.join()
    state = Job.read(folder).status.get("state")
    if child.exitcode and state not in ("failed", "interrupted"):
        cause = f"killed by signal {-child.exitcode}" if child.exitcode < 0 else f"ended with status {child.exitcode}"
        record_failure(folder, NanolmError(f"{cause}; the same sweep again goes on from there"), "interrupted")


def _child(parent: int, work: Callable[[], Any], folder: Path, log: Path | None) -> None:
    """In the child: trains; a failure is recorded in the folder. Jobs side by side speak into a `log` each."""
    _end_with(parent, folder.parent / STOP)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        work()
    except Exception as error:
        record_failure(folder, error)
        raise SystemExit(1) from None


@cache
def _end_with(process: int, stop: Path | None = None) -> None:
    """Asks this process to save and stop once `process`, which it works for, is gone, or the file `stop` is there."""

    def watch() -> None:
        while not (stop and stop.exists()):
            time.sleep(0.5)
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                break
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _stop_jobs(sweep: Path) -> None:
    """Asks every job to save and stop, and waits for those of this machine."""
    (sweep / STOP).touch()
    end = time.monotonic() + STOP_SECONDS
    for file in sweep.glob("*/.lock"):
        while not (free := try_lock(file)) and time.monotonic() < end:
            time.sleep(0.1)
        if free:
            free.release()


def guarded(sweep: Callable[[], Any]) -> None:
    """Runs a multirun and prints its table, also after ctrl-C, SIGTERM or a dead worker; exits 1 if a job failed."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # asked twice, ends at once
        if callback.current:
            _stop_jobs(callback.current[0])
        raise SystemExit(128 + number)

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise NanolmError("-m: torchrun's processes work on one run; leave out -m, or torchrun")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    status = 0
    try:
        sweep()
    except SystemExit as end:
        status = int(end.code or 0)
    except (RuntimeError, OSError) as error:  # of the launcher: there is no cluster here, a worker was killed
        print(f"train.py: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
        status = 1
    finally:
        failed = report(callback.current[0]) if callback.current else 0
    raise SystemExit(status or (1 if failed else 0))
