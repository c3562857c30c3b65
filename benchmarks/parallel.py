"""Several processes against one: real tokens per second of training with 1, 2, ... ranks of one thread each.

python benchmarks/parallel.py [--short] [--network] [adamw | muon] [older checkout]: the ways take turns, some steps
each, every one in a process of its own; with an older checkout its two ranks stand beside. --network puts the two
ranks on machines of their own, two network namespaces with 1 Gbit/s between them (needs Linux, root, and the commands
ip and tc). Bytes are those that go through sockets at a step, of two machines what the first one sends. Two trainings
that share nothing stand beside: as they are, and as if each had waited for the other at the end of every step, as
ranks must, who can hardly reach more on these cores.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from timer import MOVIES

ROOT = Path(__file__).resolve().parent.parent
STEPS, SKIPPED, TURNS = 8, 2, 6
SHORT = (3, 1, 1)  # the same with --short
SHAPE = (
    "model=small model.dims=512 model.heads=8 model.nblocks=3 model.dropout=0 batch_size=64 threads=1 precision=fp32"
)
SHAPE += " tokenizer=word tracking=disabled samples=0 compile=off log_every=1 eval_every=100000"
FILMS = f"data=movie_plots data.path={MOVIES} data.maxlen=128 tokenizer.minfreq=12"
Step = tuple[int, float]  # tokens, seconds
LAUNCH = [sys.executable, "-m", "torch.distributed.run"]
OPTIMIZERS = ("adamw", "muon")
APART = 0  # ranks of no run: two runs instead
IN_STEP = "2 apart, in step"
HOSTS = ("nanolm0", "nanolm1")


def launched_on(number: int) -> list[str]:
    """The beginning of a command that starts one of two ranks in a network namespace of its own."""
    host = HOSTS[number]
    where = ["--nnodes=2", f"--node-rank={number}", "--master-addr=10.77.0.1", "--master-port=29577"]
    return ["ip", "netns", "exec", host, "env", f"GLOO_SOCKET_IFNAME=v{host}", *LAUNCH, *where, "--nproc-per-node=1"]


def words(root: Path, optim: str, outputs: Path) -> list[str]:
    """What the train.py of `root` is told."""
    plain = ["model.spelling=0"] if (root / "nanolm/model/spelling.py").exists() else []  # older ones have no other
    data = FILMS if MOVIES.exists() else "data.plots=20000"
    return [*f"{SHAPE} {data}".split(), f"optim={optim}", "tokens=10000000", f"outputs={outputs}", *plain]


def steps(root: Path, ranks: int, optim: str, place: Path, network: bool) -> tuple[list[Step], float]:
    """(each step, bytes sent a step) of a training that is stopped after STEPS steps."""
    outputs = Path(tempfile.mkdtemp(dir=place))
    (outputs / "cache").symlink_to(place / f"cache-{root.name}")
    door = ["train.py", *words(root, optim, outputs)]
    if ranks == 1:
        commands = [[sys.executable, *door]]
    elif network:
        commands = [[*launched_on(number), *door] for number in range(len(HOSTS))]
    else:
        commands = [[*LAUNCH, "--standalone", f"--nproc-per-node={ranks}", *door]]
    env, quiet = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.DEVNULL
    with open(outputs / "told.txt", "w") as told:
        processes = [subprocess.Popen(command, cwd=root, env=env, stdout=quiet, stderr=told) for command in commands]
    sent: list[int] = []
    try:
        while all(process.poll() is None for process in processes):
            for process in processes:
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            if (done := len(rows(outputs))) > len(sent):
                sent += [bytes_sent(network)] * (done - len(sent))
            if done > STEPS:
                break
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(120)
    seen = [(int(float(row["tokens"])), float(row["tokens_per_s"])) for row in rows(outputs)[: STEPS + 1]]
    if len(seen) <= STEPS:
        raise SystemExit(f"{' '.join(commands[0])}: ended early\n{(outputs / 'told.txt').read_text()}")
    made = [(now - before, (now - before) / speed) for (before, _), (now, speed) in pairwise(seen)]
    return made[SKIPPED:], (sent[STEPS] - sent[SKIPPED]) / (STEPS - SKIPPED)


def rate(made: list[Step]) -> float:
    """Tokens per second over all steps, as a whole training has them."""
    return sum(tokens for tokens, _ in made) / sum(seconds for _, seconds in made)


def rows(outputs: Path) -> list[dict[str, str]]:
    """The rows of the one run under `outputs` so far."""
    for path in outputs.glob("2*/metrics.csv"):
        with open(path, newline="") as file:
            return [row for row in csv.DictReader(file) if row.get("tokens_per_s")]
    return []


def bytes_sent(network: bool) -> int:
    """What went over the line between the processes so far."""
    command = ["ip", "netns", "exec", HOSTS[0]] if network else []
    table = subprocess.run([*command, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout
    name = f"v{HOSTS[0]}" if network else "lo"
    [line] = [line.split(":")[1].split() for line in table.splitlines() if line.strip().startswith(f"{name}:")]
    return int(line[8])


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two network namespaces with addresses of their own and 1 Gbit/s between them."""
    first, second = HOSTS

    def run(line: str) -> None:
        subprocess.run(line.split(), check=True)

    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)
        run(f"ip netns add {host}")
    try:
        run(f"ip link add v{first} netns {first} type veth peer name v{second} netns {second}")
        for number, host in enumerate(HOSTS, 1):
            run(f"ip -n {host} addr add 10.77.0.{number}/24 dev v{host}")
            run(f"ip -n {host} link set v{host} up")
            run(f"ip -n {host} link set lo up")
            run(f"tc -n {host} qdisc add dev v{host} root tbf rate 1gbit burst 1mb latency 50ms")
        yield
    finally:
        for host in HOSTS:
            run(f"ip netns del {host}")


def apart(optim: str, place: Path) -> dict[str, tuple[float, float]]:
    """The same of two trainings of one process at once, which take the same batches."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(steps, ROOT, 1, optim, place, False) for _ in range(2)]
    one, other = (each.result()[0] for each in both)
    in_step = [(2 * tokens, max(mine, its)) for (tokens, mine), (_, its) in zip(one, other, strict=True)]
    return {"2 apart": (rate(one) + rate(other), 0.0), IN_STEP: (rate(in_step), 0.0)}


def compare(optim: str, older: Path | None, place: Path, network: bool) -> None:
    """Prints the table of one optimizer."""
    ways = {"1 process": (ROOT, 1), "2 apart": (ROOT, APART), "2 ranks": (ROOT, 2)}
    if older:
        ways["2 ranks, older"] = (older, 2)
    if not network and (os.cpu_count() or 1) >= 4:
        ways["4 ranks"] = (ROOT, 4)
    found = defaultdict[str, list[tuple[float, float]]](list)
    for _ in range(TURNS):
        for name, (root, ranks) in ways.items():
            if ranks == APART:
                results = apart(optim, place)
            else:
                made, sent = steps(root, ranks, optim, place, network)
                results = {name: (rate(made), sent)}
            for each, result in results.items():
                found[each].append(result)
    print(f"\n| {optim} | real tokens/s | ratio, each turn's | MB sent a step |\n|---|---|---|---|")
    for name, figures in found.items():
        ratios = [one[0] / first[0] for one, first in zip(figures, found["1 process"], strict=True)]
        sent = statistics.median(one[1] for one in figures) / 1e6
        speed = statistics.median(one[0] for one in figures)
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {name} | {speed:,.0f} | {statistics.median(ratios):.2f} ({each}) | {sent:,.1f} |", flush=True)


def main() -> None:
    global STEPS, SKIPPED, TURNS
    arguments = sys.argv[1:]
    if "--short" in arguments:
        STEPS, SKIPPED, TURNS = SHORT
    network = "--network" in arguments
    older = next((Path(one).resolve() for one in arguments if not one.startswith("-") and one not in OPTIMIZERS), None)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for root in filter(None, (ROOT, older)):  # the text is read once, before anything is timed
            outputs = place / f"fill-{root.name}"
            door = [sys.executable, "train.py", *words(root, "adamw", outputs)]
            door[door.index("tokens=10000000")] = "tokens=1"
            subprocess.run(door, cwd=root, check=True, stdout=subprocess.DEVNULL)
            (outputs / "cache").rename(place / f"cache-{root.name}")
        print(
            f"\n## Several processes\n\n{os.cpu_count()} cores; {'1 Gbit/s between two' if network else 'one machine'}"
        )
        for optim in [one for one in OPTIMIZERS if one in arguments] or OPTIMIZERS:
            if network:
                with two_hosts():
                    compare(optim, older, place, network)
            else:
                compare(optim, older, place, network)


if __name__ == "__main__":
    main()
