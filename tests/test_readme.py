"""Every command of the README, one after the other, on tiny models and little text."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import write_documents
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
# a server, a page that is watched, each with a test of its own; a cluster; trials
ELSEWHERE = ("app.py", "watch=true", "submitit_slurm", "benchmarks/")
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


def blocks(language: str = "") -> list[str]:
    """The README's blocks of code in a language; without one, of commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def commands() -> list[str]:
    """The lines of the README's blocks that call a door, without their remarks."""
    lines = [line.split("  #")[0].strip() for block in blocks() for line in block.splitlines()]
    return [line for line in lines if line.startswith("python ") and not any(word in line for word in ELSEWHERE)]


def tiny(line: str, run: Path | None) -> list[str]:
    """The arguments of a command, on `run` where it says outputs/..., with what makes it small."""
    given = shlex.split(line.replace("outputs/...", str(run)))[1:]
    given = [word for word in given if not word.startswith("minutes=")]
    keys, verb = [word.partition("=")[0] for word in given], given[0]
    if "data=shakespeare" in given:
        given.append("data.expected_bytes=null")
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
    (tmp_path / "tinyshakespeare.txt").write_text(" . ".join(plots))
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
    [code] = [block for block in blocks("python") if block.startswith("import nanolm")]
    code = code.replace("max_new_tokens=20", "max_new_tokens=3")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=100)


@pytest.mark.slow
def test_the_tokenizer_that_it_adds(tmp_path: Path) -> None:
    """One file and one YAML, in a copy of the house."""
    for name in ("nanolm", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tokenize.py", tmp_path)
    [code] = [block for block in blocks("python") if "PairConfig" in block]
    [yaml] = blocks("yaml")
    (tmp_path / "nanolm/tokenizer/pair.py").write_text(code)
    (tmp_path / "conf/tokenizer/pair.yaml").write_text(yaml)
    command = [sys.executable, "tokenize.py", "tokenizer=pair", "data.plots=60"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [fitted] = (tmp_path / "outputs/tokenizers").glob("pair-*/tokenizer.json")
    library = Tokenizer.from_file(str(fitted))
    found = library.encode("The Hero!")
    assert found.tokens == ["th", "e ", "he", "ro", " ."]
    assert library.decode(found.ids) == "the hero ."


def test_it_says_where_the_files_are() -> None:
    """Files and folders that it links to or draws are there, and its headings are those of its table of contents."""
    for name in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / name).exists(), name
    headings = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in README.split("\n") if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) == headings
    house = README.partition("## The house")[2]
    drawn = [name for line in re.findall(r"^  (\S.*)$", house, re.MULTILINE) for name in re.findall(r"^[\w/.]+", line)]
    assert [name for name in drawn if not (ROOT / "nanolm" / name).exists()] == []
    rooms = {path.name for path in (ROOT / "nanolm").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {room for room in rooms if f"  {room}/" not in house} == set()
