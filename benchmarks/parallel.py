"""Several processes against one: real tokens per second of training with 1, 2, ... ranks of one thread each.

python benchmarks/parallel.py [--short] [--network] [adamw | muon] [older checkout]: all ways are there at once and take
turns, a step each, so that what slows the machine slows them alike; with an older checkout its two ranks stand beside.
--network puts the two ranks on machines of their own, two network namespaces with 1 Gbit/s between them (needs Linux,
root, and the commands ip and tc). Bytes are those that go through sockets at a step, of two machines what the first one
sends. Two trainings that share nothing stand beside: as they are, and as if each had waited for the other at the end of
every step, as ranks must, who can hardly reach more on these cores.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STEPS, SKIPPED = 34, 2
SHORT = (4, 1)  # the same with --short
LAUNCH = [sys.executable, "-m", "torch.distributed.run"]
OPTIMIZERS = ("adamw", "muon")
APART = 0  # ranks of no run: two runs instead
HOSTS = ("nanolm0", "nanolm1")
Step = tuple[int, float]  # tokens, seconds


def launched_on(number: int) -> list[str]:
    """The beginning of a command that starts one of two ranks in a network namespace of its own."""
    host = HOSTS[number]
    where = ["--nnodes=2", f"--node-rank={number}", "--master-addr=10.77.0.1", "--master-port=29577"]
    return ["ip", "netns", "exec", host, "env", f"GLOO_SOCKET_IFNAME=v{host}", *LAUNCH, *where, "--nproc-per-node=1"]


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


class Way:
    """Processes of `one_step.py` that train a step when told to: ranks of one run, or APART."""

    def __init__(self, root: Path, ranks: int, optim: str, place: Path, network: bool = False) -> None:
        door = [str(ROOT / "benchmarks" / "one_step.py"), optim, str(place / root.name)]
        commands = [[sys.executable, *door]] * (2 if ranks == APART else 1)
        if ranks > 1:
            commands = [[*LAUNCH, "--standalone", f"--nproc-per-node={ranks}", *door]]
        if ranks > 1 and network:
            commands = [[*launched_on(number), *door] for number in range(len(HOSTS))]
        env, both = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}, subprocess.PIPE
        self.processes = [
            subprocess.Popen(command, cwd=root, env=env, stdin=both, stdout=both, text=True) for command in commands
        ]
        self.network = network and ranks > 1
        self.heard = self.processes if ranks == APART else self.processes[:1]
        self.made: list[list[Step]] = [[] for _ in self.heard]  # of each that is heard
        self.sent: list[int] = []

    def step(self) -> None:
        """Of all its processes at once."""
        before = bytes_sent(self.network)
        for process in self.heard:
            print(file=pipe(process.stdin), flush=True)
        lines = [pipe(process.stdout).readline().split() for process in self.heard]
        if not all(lines):
            raise SystemExit("a process ended early; its words are above")
        for made, (tokens, seconds) in zip(self.made, lines, strict=True):
            made.append((int(tokens), float(seconds)))
        self.sent.append(bytes_sent(self.network) - before)

    def close(self) -> None:
        """Ends its processes."""
        for process in self.processes:
            process.communicate()


def pipe(of: IO[str] | None) -> IO[str]:
    """Which a process that was started with pipes has."""
    assert of
    return of


def compare(optim: str, older: Path | None, place: Path, network: bool) -> None:
    """Prints the table of one optimizer."""
    roots = {"2 ranks": ROOT} | ({"2 ranks, older": older} if older else {})
    for root in roots.values():
        Way(root, 1, optim, place).close()  # the text is read once
    ways = {"1 process": Way(ROOT, 1, optim, place), "2 apart": Way(ROOT, APART, optim, place)}
    ways |= {name: Way(root, 2, optim, place, network) for name, root in roots.items()}
    if not network and (os.cpu_count() or 1) >= 4:
        ways["4 ranks"] = Way(ROOT, 4, optim, place)
    try:
        for _ in range(STEPS):
            for way in random.sample(list(ways.values()), len(ways)):
                way.step()
    finally:
        for way in ways.values():
            way.close()
    made = {name: [steps[SKIPPED:] for steps in way.made] for name, way in ways.items()}
    together = zip(*made["2 apart"], strict=True)
    made["2 apart, in step"] = [[(sum(n for n, _ in step), max(seconds for _, seconds in step)) for step in together]]
    print(f"\n| {optim} | real tokens/s | ratio (quartiles of steps') | MB sent a step |\n|---|---|---|---|")
    [alone] = made["1 process"]
    for name, parts in made.items():
        speed = sum(map(rate, parts))
        ratios = [
            sum(n / seconds for n, seconds in step) / rate([one]) for *step, one in zip(*parts, alone, strict=True)
        ]
        low, _, high = statistics.quantiles(ratios, n=4)
        sent = statistics.median(ways[name].sent[SKIPPED:]) / 1e6 if name in ways else 0.0
        ratio = f"{speed / rate(alone):.2f} ({low:.2f} to {high:.2f})"
        print(f"| {name} | {speed:,.0f} | {ratio} | {sent:,.1f} |", flush=True)


def rate(made: list[Step]) -> float:
    """Tokens per second over all steps, as a whole training has them."""
    return sum(tokens for tokens, _ in made) / sum(seconds for _, seconds in made)


def main() -> None:
    global STEPS, SKIPPED
    arguments = sys.argv[1:]
    if "--short" in arguments:
        STEPS, SKIPPED = SHORT
    network = "--network" in arguments
    older = next((Path(one).resolve() for one in arguments if not one.startswith("-") and one not in OPTIMIZERS), None)
    where = "1 Gbit/s between two" if network else "one machine"
    print(f"\n## Several processes\n\n{os.cpu_count()} cores; {where}")
    with tempfile.TemporaryDirectory() as place:
        for optim in [one for one in OPTIMIZERS if one in arguments] or OPTIMIZERS:
            with two_hosts() if network else nullcontext():
                compare(optim, older, Path(place), network)


if __name__ == "__main__":
    main()
