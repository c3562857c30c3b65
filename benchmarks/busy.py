"""A busy machine: training and writing with one other process per core at full load, and how long `minutes=1` is there.

The other processes start when a run is under way, which is harder than before it: nothing can be chosen at the start.
Each way of waiting has a process of its own; `spinning` is how OpenMP's threads wait where nobody looks after them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from timer import machine

from nanolm.generator import Generator
from nanolm.model.fast.recorded import ready_to_write
from nanolm.training.setup import Setup, set_up
from train import ROOT, config, ours, upcoming

WAYS = {"nanolm": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}, "asleep": {"GOMP_SPINCOUNT": "1000"}}
IDLE, BUSY, SETTLE = 10, 20, 3  # seconds that are measured, and that nobody counts after the others' start or end


@contextmanager
def others() -> Iterator[None]:
    """One process per core that is always at work."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def writing(setup: Setup) -> Callable[[], float]:
    """A text by `auto`'s precision; its tokens."""
    ready_to_write(setup.model, half=setup.precision == "bf16")
    generator = Generator(setup.model, setup.tokenizer, tell=lambda line: None)
    return lambda: len(generator.complete([""], "sample", 0, max_new_tokens=60)[0][0].ids)


def speed(way: Callable[[], float], period: float) -> float:
    """Of a way for that many seconds, an amount per second."""
    begun, amount = time.perf_counter(), 0.0
    while time.perf_counter() - begun < period:
        amount += way()
    return amount / (time.perf_counter() - begun)


def measure(verb: str) -> None:
    """In a process of its own: prints the speed when idle, beside others, and when they have gone."""
    with tempfile.TemporaryDirectory() as place:
        setup = set_up(config(Path(place), precision="auto"))
    way = ours(setup, upcoming(setup)) if verb == "training" else writing(setup)
    speed(way, SETTLE)
    found = [speed(way, IDLE)]
    with others():
        speed(way, SETTLE)
        found.append(speed(way, BUSY))
    speed(way, SETTLE)
    print(*found, speed(way, IDLE))


def minutes() -> float:
    """Seconds that the steps of `minutes=1` take where the others come after ten seconds."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "train.py", "minutes=1", "epochs=1000", "samples=0", "tracking=disabled"]
        run = subprocess.Popen([*command, f"outputs={place}"], cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(10)
        with others():
            run.wait()
        [status] = Path(place).glob("2*/status.json")
        said = json.loads(status.read_text())
        return float(said["tokens"] / said["tokens_per_s"])


def main() -> None:
    machine("A busy machine")
    print("\nTokens/s, the config of Training (batches of 32), by auto's precision; one other process per core:\n")
    print("| | idle | busy | share | idle again |\n|---|---|---|---|---|")
    for verb in ("training", "writing"):
        for name, variables in WAYS.items():
            command = [sys.executable, "-W", "ignore", __file__, verb]
            done = subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True)
            idle, busy, again = map(float, done.stdout.split()[-3:])
            print(f"| {verb}, {name} | {idle:,.0f} | {busy:,.0f} | {busy / idle:.0%} | {again:,.0f} |", flush=True)
    print(f"\nminutes=1 where the others come after ten seconds: {minutes():.0f} seconds of steps.")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1])
    else:
        main()
