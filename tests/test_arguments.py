"""A value means what was typed: texts, lists, paths, numbers, sweeps and flags, from argv into the checked config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import OmegaConf

from nanolm.cli.arguments import ready
from nanolm.cli.configs import CONF, register
from nanolm.cli.door import typed
from nanolm.config import build
from nanolm.errors import ConfigError, one_line
from nanolm.training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent


def composed(*words: str) -> TrainConfig:
    """What `python train.py WORDS` trains with."""
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        config: Any = OmegaConf.to_object(compose("train", overrides=ready("train", list(words))))
    return config


def swept(word: str) -> list[Any]:
    """The values that Hydra's sweeper gives a key."""
    parsed: Override = OverridesParser.create().parse_override(ready("train", ["-m", word])[-1])
    value: Any = parsed.value()
    if not parsed.is_sweep_override():
        return [plain(value)]
    return [plain(one) for one in value.list]


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.text if isinstance(value, QuotedString) else value


def test_texts_arrive_as_they_are_typed() -> None:
    texts = ["2026_11_28", "1e5", "1984", "true", "a,b", "it's", "x (1)", "a=b", "end\\", "ä ö", "[1", "don't\\'"]
    for one, two, three in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
        config = composed(f"run_name={one}", f"group={two}", f"tracking.project={three}")
        assert (config.run_name, config.group, vars(config.tracking)["project"]) == (one, two, three)
    assert composed("run_name='a, b'").run_name == "a, b", "the user's own quotes quote"
    assert composed("outputs=null").outputs == "null", "this key always has a text"


def test_a_text_that_may_be_missing_can_be_left_out_in_every_spelling() -> None:
    for spelling in ("null", "None", "none"):
        config = composed(f"run_name={spelling}", f"data.maxlen={spelling}", f"minutes={spelling}")
        assert (config.run_name, config.data.maxlen, config.minutes) == (None, None, None)
    assert composed("run_name='None'").run_name == "None"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("[1_000,old cat]", ["1_000", "old cat"]),
        ("[don't stop]", ["don't stop"]),
        ("[null, 1e5, true]", ["null", "1e5", "true"]),
        ("['a, b', c]", ["a, b", "c"]),
        ('["it\'s, so", [x] y]', ["it's, so", "[x] y"]),
        ("[]", []),
        ("", []),
        ("['']", [""]),
        ("the old map", ["the old map"]),
        ("1984", ["1984"]),
    ],
)
def test_lists_of_texts_arrive_as_they_are_typed(typed: str, expected: list[str]) -> None:
    assert composed(f"prompts={typed}").prompts == expected


def test_a_text_with_a_comma_for_a_list_is_asked_about() -> None:
    with pytest.raises(ConfigError, match=r"^tags=a,b: a list is written as \[a,b\]"):
        ready("train", ["tags=a,b"])


def test_names_of_files_arrive_as_they_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("1984", "my (1).txt", "[1].txt", "a,b.txt", "C:\\texts\\a.txt", "dims=64,heads=2", "it's \\'s"):
        (tmp_path / name).touch()
        assert composed("data=files", f"data.path={name}").data.path == name  # type: ignore[attr-defined]
        assert swept(f"init={name}") == [name]
    both = composed("data=files", "data.path=[my (1).txt,lines.txt]").data
    assert both.path == ["my (1).txt", "lines.txt"]  # type: ignore[attr-defined]


def test_the_home_folder_in_every_key_of_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = composed("outputs=~/x", "init=~/y", "data=files", "data.path=[~/a*.txt, b.txt]", "run_name=~/z")
    assert (config.outputs, config.init, config.run_name) == ("/home/ada/x", "/home/ada/y", "~/z")
    assert config.data.path == ["/home/ada/a*.txt", "b.txt"]  # type: ignore[attr-defined]
    assert swept("outputs=~/x,y") == ["/home/ada/x", "y"]
    assert ready("train", ["hydra.run.dir=~/x"]) == ["hydra.run.dir=/home/ada/x"]
    assert ready("export", ["folder=~/x"]) == ["folder=/home/ada/x"]
    address = "https://example.org/~ada/a.txt"
    assert typed(OmegaConf.structured(composed("data=files", f"data.path=[{address}]"))).data.path == [address]
    assert composed("outputs=~nobody-of-that-name/x").outputs == "~nobody-of-that-name/x"


def test_numbers_as_people_write_them() -> None:
    config = composed("tokens=1e6", "batch_size=16.0", "eval_every=1_000", "optim.lr=1e-3", "data.limit=2.5e2")
    assert (config.tokens, config.batch_size, config.eval_every, config.data.limit) == (10**6, 16, 1000, 250)
    assert isinstance(config.tokens, int)
    assert config.optim.lr == 0.001
    assert swept("tokens=1e5,1e6") == [100_000, 1_000_000]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("model.dims=abc", "model.dims=abc: must be a whole number"),
        ("optim.lr=true", "optim.lr=True: must be a number"),
        ("tokenizer=wrod", "tokenizer=wrod: no such option; there are bpe, char, word"),
        ("experiment=nothing", "experiment=nothing: no such option; there are "),
        ("decode=-1", "decode=-1: must be a name; there are beam | greedy | sample"),
        ("nonsense=3", "nonsense: no such key; there are accumulate, "),
        ("+nonsense=3", "nonsense: no such key"),
        ("+optim.nonsense=3", "optim.nonsense: no such key"),
        ("lr=0.1", "lr: no such key; did you mean optim.lr?"),
        ("dim=64", "dim: no such key; did you mean model.dims?"),
        ("model.epochs=3", "model.epochs: no such key; did you mean epochs?"),
        ("model=null", "model=null: must be a name; there are base | original | record | small | tiny"),
        ("model=tiny,small", "model=tiny,small: makes several runs; add -m"),
        ("model.dims=64,128", "model.dims=64,128: several values are a sweep of train.py's, with -m"),
        ("sweep=minfreq", "sweep=minfreq: makes several runs; add -m"),
        ("data.dedup=None", "data.dedup=None: must be true or false"),
        ("~decode", "decode: must be given, as decode=..."),
        ("hydra.job.chdir=true", "hydra.job.chdir: can't be changed"),
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir: can't be changed"),
        ("model.heads=3", "model.dims=256: must be a multiple of model.heads=3"),
        ("tokens=1M", "tokens=1M: must be a whole number, as 1000 or 1e3"),
        ("tokens=1.5", "tokens=1.5: must be a whole number"),
        ("tokens=1e999999999", "tokens=inf: must be a whole number"),
        ("optim.lr=fast", "optim.lr=fast: must be a number, as 0.001 or 1e-3"),
        ("batch_size=None", "batch_size=None: must be a whole number"),
        ("batch_size=null", "batch_size=null: must be given a value"),
        ("tokens=1,000", "tokens=1,000: several values are a sweep of train.py's, with -m; 1000 has no comma"),
        ("optim.lr=(", "optim.lr=(: can't be read; as text it goes in quotes, \"optim.lr='('\""),
        ("optim.lr=0.1 0.2]", "optim.lr=0.1 0.2]: can't be read"),
        ("the", "the: values are set as key=value; what holds blanks goes in quotes"),
        ("=", "=: values are set as key=value, without blanks around the sign"),
        ("optim.name=adamw", "optim.name=adamw: an option's name can't be changed; choose the option with optim=adamw"),
        ("model.name=base", "model.name=base: an option's name"),
        ("--epochs=3", "--epochs=3: no such flag; a key is set without dashes, as epochs=..."),
        ("-lr", "-lr: no such flag"),
        ("--resolve", "--resolve: goes with --cfg job or --help"),
    ],
)
def test_what_cannot_be_meant_is_one_line_with_the_mend(typed: str, says: str) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011 (Hydra's, OmegaConf's or ours: what counts is the line)
        composed(typed)
    line = one_line(refused.value)
    assert line.startswith(says)
    assert "\n" not in line
    assert "exer" not in line, "the name of a lexer's error"


def test_the_name_of_an_option_decides_nothing() -> None:
    assert ready("train", ["optim=adamw", "optim.name=adamw"]) == ["optim=adamw", "optim.name=adamw"]
    for word in ("decode.name=greedy", "tokenizer.name=char,word", "++model.name=base"):
        with pytest.raises(ConfigError, match="an option's name can't be changed"):
            ready("train", ["-m", word])
    for group in ("optim", "decode", "tokenizer", "data"):
        cls = type(getattr(composed(), group))
        with pytest.raises(ConfigError, match=rf"^{group}\.name=other: is not the name of the option chosen"):
            cls(name="other")
    assert build("optim", {"name": "adam"}).name == "adam"


def test_a_plus_before_a_key_that_there_is_changes_nothing() -> None:
    assert composed("+model.dims=64", "++seed=3").model.dims == 64


def test_a_key_that_only_some_of_the_swept_options_have() -> None:
    with pytest.raises(ConfigError) as refused:
        ready("train", ["-m", "tokenizer=bpe,char,word", "tokenizer.vocab_size=300"])
    says = "only bpe has it; sweep tokenizer=bpe with it, and tokenizer=char,word without"
    assert str(refused.value) == f"tokenizer.vocab_size: {says}"
    ready("train", ["-m", "tokenizer=bpe,char", "tokenizer.minfreq=3"])
    with pytest.raises(ConfigError, match="only offline and online have it"):
        ready("train", ["-m", "tracking=offline,online,disabled", "tracking.project=a"])
    ready("train", ["tracking=disabled", "tracking=offline", "tracking.project=a"])  # the last word counts


def test_a_flag_for_a_prompt_is_refused_and_not_taken_for_hydras_own() -> None:
    for words in (["-p", "the"], ["--package=the"]):
        with pytest.raises(ConfigError, match=r"^-p: .* as prompt=\.\.\.$"):
            ready("generate", words)
    ready("train", ["--cfg", "job", "-p", "model"])


def test_a_key_of_another_option_says_whose_it_is(tmp_path: Path) -> None:
    for words, says in {
        ("decode=greedy", "decode.temperature=1"): "decode.temperature: no such key; decode=sample has it",
        ("data.plots=5", "data=hub"): "data.plots: no such key; data=tinyplots has it",
        ("optim.momentum=0.9", "optim=adam"): "optim.momentum: no such key; optim=muon has it",
    }.items():
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (1, f"train.py: {says}\n")


def test_flags_may_stand_anywhere() -> None:
    assert ready("train", ["outputs=x", "-m", "seed=1,2"]) == ["-m", "outputs=x", "seed=1,2"]
    assert ready("train", ["seed=1", "--cfg", "job", "epochs=2"]) == ["--cfg", "job", "seed=1", "epochs=2"]
    assert ready("train", ["seed=1", "--info", "epochs=2"]) == ["--info=all", "seed=1", "epochs=2"]
    assert ready("train", ["seed=1,2", "hydra.mode=MULTIRUN"]) == ["-m", "seed=1,2"]
    with pytest.raises(ConfigError, match=r"^-m with --cfg"):
        ready("train", ["-m", "--cfg", "job", "seed=1,2"])
    for flag in ("-m", "--multirun", "hydra.mode=MULTIRUN"):
        with pytest.raises(ConfigError, match=r"^-m: only train\.py sweeps$"):
            ready("generate", [flag, "seed=1,2"])


@pytest.mark.parametrize("word", ["hydra/sweeper=halving", "hydra.sweeper.eta=2", "hydra/launcher=joblib"])
def test_what_is_about_a_sweep_needs_one(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{word}: is about a sweep; add -m$"):
        ready("train", [word])
    with pytest.raises(ConfigError, match=rf"^{word}: only train\.py sweeps$"):
        ready("generate", [word])
    assert ready("train", [word, "--cfg", "hydra"])[-1] == word


def test_the_values_of_a_sweep_are_read_one_by_one() -> None:
    assert swept("run_name=1e5,'a, b',None") == ["1e5", "a, b", None]
    assert swept("prompts=[a b,c],[1_0]") == [["a b", "c"], ["1_0"]]
    assert swept("data.maxlen=None,1e2") == [None, 100]
    for word in ("model.dims=range(1,3)", "model.mlp=choice(gelu,relu)", "optim.lr=interval(1e-4,1e-2)"):
        assert ready("train", ["-m", word]) == ["-m", word], "Hydra's own functions are Hydra's"


def test_what_hydra_reads_by_itself_stays_as_it_is() -> None:
    """Names of jobs are made of these words."""
    words = ["model.mlp=gelu", "data.path=corpus/a-1.txt", "init=/x/y.z", "run_name=abc", "decode.early_stopping=never"]
    assert ready("train", words) == words
