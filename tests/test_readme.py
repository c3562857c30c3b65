"""Every command of the README, one after the other, on tiny models and little text."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import write_documents

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ELSEWHERE = ("app.py", "submitit_slurm", "benchmarks/")  # a server with a test of its own; a cluster; trials
SMALL = [
    "model.dims=16",
    "model.heads=2",
    "model.nblocks=1",
    "batch_size=8",
    "data.val=0.2",
    "data.test=0.2",
    "samples=1",
]
SMALL += ["epochs=0.5", "tokenizer.minfreq=1", "data.plots=60", "decode.max_new_tokens=3", "tracking=disabled"]


def commands() -> list[str]:
    """The lines of the README's blocks that call a door, without their remarks."""
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python ") and not any(word in line for word in ELSEWHERE)]


def tiny(line: str, run: Path | None) -> list[str]:
    """The arguments of a command, on `run` where it says outputs/..., with what makes it small."""
    given = shlex.split(line.replace("outputs/...", str(run)))[1:]
    keys, verb = [word.partition("=")[0] for word in given], given[0]
    if "resume" in keys:
        return [*given, "epochs=2", "tracking=disabled"]
    wanted = [pair for pair in SMALL if pair.partition("=")[0] not in keys]
    if any(key in keys for key in ("data", "init")):
        wanted.remove("data.plots=60")
    if "init" in keys:
        wanted = [pair for pair in wanted if not pair.startswith(("model.", "tokenizer."))]
    if "sweep=search" in given:
        wanted = [*(pair for pair in wanted if not pair.startswith("model.")), "hydra.sweeper.n_trials=1"]
    elif "-m" in given:  # what is swept decides the width
        wanted = [pair for pair in wanted if pair != "tokenizer.minfreq=1" and not pair.startswith("model.heads")]
        wanted = [pair for pair in wanted if pair.startswith("model.nblocks") or not pair.startswith("model.")]
    takes = {"train.py": "", "generate.py": "decode.", "tokenize.py": "data.val"}
    return [*given, *(pair for pair in wanted if verb in takes and pair.startswith(takes[verb]))]


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path) -> None:
    lines = commands()
    assert {line.split()[1] for line in lines} >= {
        f"{verb}.py" for verb in ("tokenize", "train", "generate", "compare")
    }
    plots = write_documents(tmp_path / "mine.txt", 60).read_text().splitlines()
    (tmp_path / "movies.csv").write_text("Title,Plot\n" + "".join(f"x,{plot}\n" for plot in plots))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run: Path | None = None
    for line in lines:
        verb, *arguments = tiny(line, run)
        command = [sys.executable, str(ROOT / verb), *arguments]
        kept = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run(command, input="the old map\n", **kept)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        run = min((tmp_path / "outputs").glob("2*"), default=None)  # the first, which can be exported
    snippet = re.search(r"`(import nanolm; nanolm\.load.*?)`", README)
    assert snippet
    subprocess.run([sys.executable, "-c", snippet[1]], check=True, cwd=tmp_path, env=environment, timeout=100)
