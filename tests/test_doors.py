"""The front door as a user meets it: what composes, what is refused and how, and that prompts arrive as typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nanolm.cli.configs import CONF
from nanolm.cli.door import lift, quoted
from nanolm.errors import one_line

ROOT = Path(__file__).resolve().parent.parent
VERBS = sorted(file.stem for file in Path(CONF).glob("*.yaml") if file.stem != "door")
YAMLS = sorted(Path(CONF).glob("*/*.yaml"))
OPTIONS = [f"{file.parent.name}={file.stem}" for file in YAMLS if file.parent.name != "sweep"]


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


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_the_choices(verb: str) -> None:
    done = run(f"{verb}.py", "--help")
    assert done.returncode == 0
    assert f"python {verb}.py" in done.stdout


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.dim=64", "model.dim: no such key; did you mean dims?"),
        ("model.dims=abc", "model.dims=abc: must be a whole number"),
        ("optim.lr=true", "optim.lr=True: must be a number"),
        ("tokenizer=wrod", "tokenizer=wrod: no such option; there are bpe, char, word"),
        ("decode=-1", "decode=-1: must be a name; there are beam | greedy | sample"),
        ("experiment=nothing", "experiment=nothing: no such option; there are "),
        ("nonsense=3", "nonsense: no such key"),
        ("batch_size=0", "batch_size=0: must be at least 1"),
        ("model.heads=3", "model.heads"),
        ("epochs", "epochs"),
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


def test_the_folder_of_a_sweep_s_job_can_be_given_as_it_is_named(tmp_path: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    job = tmp_path / "it's dims=64,heads=2-1f3a9c07"
    job.mkdir()
    (parsed,) = OverridesParser.create().parse_overrides([quoted(f"run={job}")])
    assert parsed.value() == str(job)
    assert quoted("model.dims=64,128") == "model.dims=64,128"


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
    extra = ["data.path=text.txt"] if option == "data=files" else []  # it has no default
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_object(compose("train", overrides=[option, *extra]))
    assert isinstance(config, TrainConfig)


def test_a_missing_extra_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError(name='gradio')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, str(ROOT / "app.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "app.py: needs the package gradio, which is not installed: pip install -e '.[app]'\n"


@pytest.mark.parametrize("name", ["filmé.txt", "a~b.txt", "dims=64,heads=2", "it's \\'s", "end\\", "${x}", "plain.txt"])
def test_a_path_that_exists_arrives_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    parsed = OverridesParser.create().parse_override(quoted(f"data.path={tmp_path / name}"))
    value = parsed.value()
    assert str(getattr(value, "text", value)) == str(tmp_path / name)


def test_only_training_sweeps(tmp_path: Path) -> None:
    done = run(str(ROOT / "generate.py"), "-m", "seed=1,2", "prompt=x", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "generate.py: -m: only train.py sweeps\n")
    assert not list(tmp_path.iterdir())
