"""The front door as a user meets it: what composes, what is refused and how, and that prompts arrive as typed."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import untrained
from conftest import posix_only
from tiny_run import write_documents

from nanolm.cli.configs import CONF, VERBS, schemas
from nanolm.cli.door import lift
from nanolm.config import help_of
from nanolm.errors import NanolmWarning, one_line, warn_in_one_line

ROOT = Path(__file__).resolve().parent.parent
YAMLS = sorted(Path(CONF).glob("*/*.yaml"))
OPTIONS = [f"{file.parent.name}={file.stem}" for file in YAMLS if file.parent.name != "sweep"]

# Runs the script named by its first argument without any installed package.
WITHOUT_PACKAGES = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
name = sys.argv[1] + ".py"
sys.argv = [name]
exec(compile(open(name).read(), name, "exec"), {{"__name__": "__main__", "__spec__": None}})
"""


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_composes_without_heavy_imports(verb: str) -> None:
    heavy = "torch|pandas|wandb|gradio|matplotlib|transformers|tokenizers|pyarrow"
    done = run("-X", "importtime", f"{verb}.py", "--cfg", "job")
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {
        line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if line.startswith("import time")
    }
    assert not loaded & set(heavy.split("|"))


def test_our_warnings_are_one_line_and_others_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = list[str]()
    monkeypatch.setattr(warnings, "showwarning", lambda message, *more: others.append(str(message)))
    warn_in_one_line("train")
    with warnings.catch_warnings(action="always"):
        warnings.warn("precision=bf16: as told", NanolmWarning, stacklevel=1)
        assert capsys.readouterr().err == "train.py: warning: precision=bf16: as told\n"
        monkeypatch.setenv("RANK", "1")
        warnings.warn("precision=bf16: as told", NanolmWarning, stacklevel=1)
        assert capsys.readouterr().err == ""
        warnings.warn("a library's", UserWarning, stacklevel=1)
        assert (capsys.readouterr().err, others) == ("", ["a library's"])


def test_a_verb_warns_in_one_line(tmp_path: Path) -> None:
    write_documents(tmp_path / "text.txt")
    untrained.run(tmp_path)
    words = ["generate.py", f"run={tmp_path / 'out/run'}", "prompt=the", "quantize=bf16", "decode=greedy"]
    lines = ["import runpy, sys", "from nanolm import hardware", "hardware.cpu_has = lambda kind: False"]
    lines += [f"sys.argv = {words!r}", "runpy.run_path('generate.py', run_name='__main__')"]
    done = run("-c", "; ".join(lines))
    why = "this CPU lacks the instructions, so it saves memory but may be slower than fp32"
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == f"generate.py: warning: quantize=bf16: {why}"


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_the_choices_and_says_what_each_key_means(verb: str) -> None:
    done = run(f"{verb}.py", "--help")
    assert done.returncode == 0
    assert f"python {verb}.py" in done.stdout
    assert not re.search(r"(?<!\$)\{", done.stdout)
    for name in {field.name for field in dataclasses.fields(VERBS[verb])} - set(schemas()):
        assert f"# {help_of(VERBS[verb], name)}\n" in done.stdout
    if verb == "tokenize":
        assert "tokenizer: word\n  minfreq: 1" in done.stdout
        assert "# how often the training texts" in done.stdout


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.dim=64", "model.dim: no such key; did you mean dims?"),
        ("decode=-1", "decode=-1: must be a name; there are beam | greedy | sample"),
        ("batch_size=0", "batch_size=0: must be at least 1"),
        ("optim.lr=(", "optim.lr=(: can't be read"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, says: str, tmp_path: Path) -> None:
    done = run(str(ROOT / "train.py"), override, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("train.py: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


PROMPTS = ["the dog's dinner", "a, b, c", "${oc.env:HOME}", "null", "x=1", "[1,2]", "'quoted\"", "true", ""]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_arrive_verbatim(prompt: str) -> None:
    argv, lifted = lift(["run=latest", f"prompt={prompt}", "seed=1"], ["prompt"])
    assert argv == ["run=latest", "seed=1"]
    assert lifted == {"prompt": prompt}


def test_root_tokenize_gives_way_to_the_standard_library() -> None:
    done = run("-c", "import inspect, tokenize, linecache; print(tokenize.__file__); tokenize.generate_tokens")
    assert done.returncode == 0
    assert Path(done.stdout.strip()).resolve() == Path(os.__file__).resolve().parent / "tokenize.py"
    assert "NAME" in run("-m", "tokenize", "train.py").stdout


def test_our_own_messages_pass_unchanged() -> None:
    assert one_line(ValueError("as it is")) == "as it is"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_yaml_composes_into_checked_dataclasses(option: str) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from nanolm.cli.configs import register
    from nanolm.training.config import TrainConfig

    register()
    needed = {"data=files": ["data.path=text.txt"], "data=hub": ["data.dataset=a/b"]}  # what has no default
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_object(compose("train", overrides=[option, *needed.get(option, [])]))
    assert isinstance(config, TrainConfig)


def test_a_missing_extra_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError(name='gradio')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, str(ROOT / "app.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "app.py: needs gradio, which is not installed here: pip install -e '.[app]'\n"


def test_only_training_sweeps(tmp_path: Path) -> None:
    done = run(str(ROOT / "generate.py"), "-m", "seed=1,2", "prompt=x", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "generate.py: -m: only train.py sweeps\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_outside_its_environment_says_so(verb: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", WITHOUT_PACKAGES, verb]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{verb}.py: this Python ({sys.executable}, ")
    assert "lacks nanolm's packages: source .venv/bin/activate" in done.stderr
    assert done.stderr.count("\n") == 1


def test_hydra_s_own_key_for_a_run_s_folder(tmp_path: Path) -> None:
    write_documents(tmp_path / "text.txt")
    small = [
        "model=tiny",
        "model.dims=16",
        "model.heads=2",
        "model.nblocks=1",
        "epochs=0.5",
        "samples=0",
        "tracking=disabled",
    ]
    words = [*small, "data=files", "data.path=text.txt", "data.val=0.2", "data.test=0.2", "hydra.run.dir=here/mine"]
    done = run(str(ROOT / "train.py"), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "here/mine/status.json").read_text())["state"] == "finished"
    assert [place.name for place in (tmp_path / "outputs").iterdir()] == ["cache"]
    again = run(str(ROOT / "train.py"), *words, cwd=tmp_path)
    assert again.returncode == 1
    assert "here/mine: holds a run already; resume=here/mine goes on with it" in again.stderr
    other = run(str(ROOT / "export.py"), "run=here/mine", "hydra.run.dir=there", cwd=tmp_path)
    assert other.stderr == "export.py: hydra.run.dir=there: only train.py makes a run's folder\n"


def test_a_sweep_switched_on_by_its_key_is_a_sweep(tmp_path: Path) -> None:
    """Its table and its exit status; jobs that fail at once are enough to see them."""
    words = ["hydra.mode=MULTIRUN", "data=files", "data.path=nowhere.txt", "seed=1,2", "tracking=disabled"]
    done = run(str(ROOT / "train.py"), *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} train.py --help | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def unread(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command whose output goes into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        command = [sys.executable, str(ROOT / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=cwd, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)


@posix_only
def test_a_verb_that_nobody_reads_ends_without_a_word(tmp_path: Path) -> None:
    untrained.run(tmp_path)
    done = unread("generate.py", f"run={tmp_path / 'out/run'}", "prompt=the", "output=jsonl", "decode=greedy")
    assert (done.returncode, [line for line in done.stderr.splitlines() if "run=" not in line]) == (141, [])


@posix_only
@pytest.mark.parametrize("launcher", ["local", "joblib", "basic"])
def test_a_sweep_that_nobody_reads_goes_on(tmp_path: Path, launcher: str) -> None:
    words = ["-m", "data=files", "data.path=nowhere.txt", "seed=1,2", "tracking=disabled", f"hydra/launcher={launcher}"]
    done = unread("train.py", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(list(tmp_path.glob("outputs/sweeps/*/seed=*/status.json"))) == 2
