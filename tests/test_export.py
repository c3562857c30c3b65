"""Exports, judged by other people's code: transformers opens them and gives the same numbers, ids and tokens."""

import csv
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import untrained
from untrained import TEXTS, tokenizer

from nanolm.config import build
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.errors import ConfigError, NanolmError
from nanolm.export.card import escape_markdown
from nanolm.export.export import export
from nanolm.export.hf import NAMES, hf_weights
from nanolm.generator import load
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.runs.run import Run
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, PAD, UNK, Tokenizer

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data" / "movie_extracts.csv.gz"
STOCK: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3-untied-grouped": {"tied": False, "heads": 4, "kv_heads": 2},
    "llama": {"qk_norm": False},
    "llama-untied-hidden": {"qk_norm": False, "tied": False, "hidden": 40, "heads": 4, "kv_heads": 1},
}
KINDS = [(name, mode) for name in ("char", "word", "bpe") for mode in ("clean", "none")]
ODD = ["<EOS>", "a <BOS> b", "<PAD><UNK>", "x<EOS>", "<bos>", "", "  ", "İΣ ΑΣ.", "a\n\nb\t<EOS>", "don't [1] stop!?"]
PROMPTS = ["the army", "", "a dog and a dragon fight", "the sea comes"]


def out(folder: Path, kind: str = "hf", **model: Any) -> Path:
    """The export of an untrained run."""
    untrained.run(folder, **model)
    return export("latest", kind, outputs=str(folder / "out"))


@pytest.mark.parametrize("model", STOCK.values(), ids=STOCK)
def test_every_weight_gets_a_name_of_its_own(model: dict[str, Any]) -> None:
    network = Transformer(ModelConfig(dims=16, nblocks=3, **({"heads": 2} | model)), 20, 8)
    found = hf_weights(network)
    assert sum(tensor.numel() for tensor in found.values()) == sum(network.summary().values())
    assert len({name for names in NAMES.values() for name in names}) == sum(map(len, NAMES.values()))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"norm": "layer", "norm_position": "post", "mlp": "single"}, "model.norm=layer, model.norm_position=post, "),
        ({"positions": "sinusoidal"}, "model.positions=sinusoidal: "),
        ({"positions": "alibi"}, "model.positions=alibi: "),
        ({"mlp": "relu2", "biases": True}, "model.mlp=relu2, model.biases=True: "),
        ({"attention_output": False}, "model.attention_output=False: "),
    ],
    ids=str,
)
def test_what_nobody_else_has_says_so(tmp_path: Path, model: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        out(tmp_path, **model)
    assert str(error.value).startswith(named)
    assert "model=small model.dims=16 model.heads=2 model.nblocks=2" in str(error.value)
    assert not (tmp_path / "out" / "exports").exists()


def test_the_card_has_the_runs_figures_and_shows_its_words_as_text(tmp_path: Path) -> None:
    made = untrained.run(tmp_path)
    nasty = made.folder.rename(made.folder.parent / "<b>|[x](y)`: \n'\"")
    folder = export(str(nasty), "space", str(tmp_path / "space"))
    text = (folder / "README.md").read_text()
    front, _, rest = text.removeprefix("---\n").partition("\n---\n")
    [title] = [line for line in front.splitlines() if line.startswith("title:")]
    assert json.loads(title.removeprefix("title:")) == nasty.name
    assert "<b>" not in rest
    assert "# &lt;b&gt;\\|\\[x\\](y)\\`: &#x27;&quot;\n" in rest
    assert "| this model | 1.25 | 1.5 |" in rest
    assert f"| training.vocabulary | {len(tokenizer())} |" in rest
    assert "| model.dims | 16 |" in rest
    assert str(tmp_path) not in text


def test_values_are_shown_as_they_are() -> None:
    assert [escape_markdown(value) for value in (None, True, 12345, 0.5, "a_b")] == [
        "not measured",
        "True",
        "12,345",
        "0.5",
        "a\\_b",
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "pickle"}, "format=pickle: must be one of hf, space"),
        ({"push": "nobody"}, "push=nobody: must be user/name"),
        ({"push": "a/../b"}, "push=a/../b: must be user/name"),
        ({"folder": "/dev/null/x"}, "/dev/null/x: can't be made"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    untrained.run(tmp_path)
    with pytest.raises(NanolmError, match=re.escape(says)):
        export("latest", **fields, outputs=str(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["hf", "space", "int8"])
def test_a_run_is_never_overwritten_by_its_export(tmp_path: Path, kind: str) -> None:
    made, other = untrained.run(tmp_path).folder, tmp_path / "other"
    other.mkdir()
    (other / "last.safetensors").write_bytes(b"of another run")
    before = {file: file.read_bytes() for file in made.iterdir()}
    for folder in (made, made / ".." / made.name, other):
        with pytest.raises(ConfigError, match="is a run itself, which would be overwritten"):
            export(str(made), kind, str(folder), outputs=str(tmp_path / "out"))
    assert {file: file.read_bytes() for file in made.iterdir()} == before


class Hub:
    """A stand-in for huggingface_hub's HfApi."""

    calls: list[tuple[str, dict[str, Any]]]
    trouble: Exception | None = None

    def create_repo(self, name: str, **how: Any) -> str:
        if self.trouble:
            raise self.trouble
        self.calls.append((name, how))
        return f"https://hub/{name}"

    def upload_folder(self, **how: Any) -> None:
        self.calls.append(("upload", how))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr(Hub, "calls", [], raising=False)
    monkeypatch.setattr(Hub, "trouble", None)
    return Hub


@pytest.mark.parametrize(("kind", "repository", "sdk"), [("hf", "model", None), ("space", "space", "gradio")])
def test_a_push_makes_the_repository_and_uploads(
    tmp_path: Path, hub: type[Hub], kind: str, repository: str, sdk: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    untrained.run(tmp_path)
    folder = export("latest", kind, push="me/small", outputs=str(tmp_path / "out"))
    (name, made), (_, sent) = hub.calls
    assert (name, made) == ("me/small", {"repo_type": repository, "exist_ok": True, "space_sdk": sdk})
    assert (sent["repo_id"], sent["repo_type"], sent["folder_path"]) == ("me/small", repository, folder)
    assert "uploaded to https://hub/me/small" in capsys.readouterr().out
    assert "me/small" in (folder / "README.md").read_text()


def test_a_push_says_what_is_missing(tmp_path: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    untrained.run(tmp_path)
    hub.trouble = ConnectionError("no way\nout")
    with pytest.raises(NanolmError, match=r"push=me/small: ConnectionError: no way out; is the network there.*ready: "):
        export("latest", push="me/small", outputs=str(tmp_path / "out"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(NanolmError, match=r"push=me/small: no Hugging Face token; .*hf auth login.*ready: "):
        export("latest", push="me/small", outputs=str(tmp_path / "out"))
    assert (tmp_path / "out" / "exports" / "run-hf" / "model.safetensors").exists()


def test_a_space_carries_what_it_needs_and_no_path_of_this_machine(tmp_path: Path) -> None:
    folder = out(tmp_path, "space", norm="layer", mlp="single")  # any model can be a Space
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "LICENSE",
        "README.md",
        "app.py",
        "model.json",
        "model.safetensors",
        "nanolm",
        "requirements.txt",
        "tokenizer.json",
    }
    assert not list(folder.rglob("__pycache__"))
    assert not list(folder.rglob("manifest.json")), "latest and compare would take it for a run"
    for name in ("README.md", "model.json", "app.py"):
        assert str(tmp_path) not in (folder / name).read_text()
    needs = (folder / "requirements.txt").read_text().splitlines()[1:]
    assert set(needs) <= set(re.findall(r'^    "(.*)",$', (ROOT / "pyproject.toml").read_text(), re.M))
    version = re.search(r"^gradio==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert version
    assert f"sdk_version: {version[1]}\n" in (folder / "README.md").read_text()


def ended(row: list[int]) -> list[int]:
    """Ids up to <EOS>; transformers fills the rest with it or with <PAD>."""
    return row[: row.index(EOS) + 1] if EOS in row else [token for token in row if token != PAD]


@pytest.mark.slow
class TestByTransformers:
    """AutoModelForCausalLM and AutoTokenizer, nothing of ours."""

    transformers = pytest.importorskip("transformers")

    @pytest.mark.parametrize("kind", STOCK)
    def test_logits_are_equal(self, tmp_path: Path, kind: str) -> None:
        folder = out(tmp_path, **STOCK[kind])
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        assert theirs.config.model_type == kind.partition("-")[0]
        ours = Run.open(tmp_path / "out" / "run").model()
        ids = torch.randint(4, ours.vocab_size, (3, ours.context), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = ours.logits(ours(ids))
            torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-4, rtol=0)
        assert expected.abs().mean() > 0.5, "a model without opinions would prove little"

    @pytest.mark.parametrize("beams", [1, 10])
    @pytest.mark.parametrize("kind", STOCK)
    def test_generation_gives_the_same_tokens(self, tmp_path: Path, kind: str, beams: int) -> None:
        folder = out(tmp_path, **STOCK[kind])
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        writer = load(tmp_path / "out" / "run", device="cpu", precision="fp32")
        config = Beam(num_beams=beams, num_return_sequences=beams) if beams > 1 else Greedy()
        for prompt, found in zip(PROMPTS, writer.complete(PROMPTS, config), strict=True):
            given = words(prompt, return_tensors="pt")
            how = {"num_beams": beams, "num_return_sequences": beams, "max_length": writer.model.context + 1}
            rows = theirs.generate(**given, do_sample=False, **how)
            assert [ended(row[given.input_ids.shape[1] :]) for row in rows.tolist()] == [one.ids for one in found]
            assert words.decode(rows[0], skip_special_tokens=True).strip() == found[0].text

    def test_a_padded_batch_gives_the_same_tokens(self, tmp_path: Path) -> None:
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        given = words(PROMPTS, return_tensors="pt", padding=True)
        rows = theirs.generate(**given, do_sample=False, max_new_tokens=9)[:, given.input_ids.shape[1] :]
        found = load(tmp_path / "out" / "run").complete(PROMPTS, Greedy(max_new_tokens=9))
        assert [ended(row) for row in rows.tolist()] == [one.ids for [one] in found]

    def test_generation_stops_at_eos_and_writes_no_special(self, tmp_path: Path) -> None:
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert theirs.generation_config.eos_token_id == EOS
        torch.manual_seed(0)
        how: dict[str, Any] = {"do_sample": True, "top_k": 0, "num_return_sequences": 64, "max_length": 25}
        rows = theirs.generate(torch.tensor([[BOS]]), **how)[:, 1:]
        written = [ended(row) for row in rows.tolist()]
        assert any(EOS in row for row in written)
        assert not {PAD, UNK, BOS} & {token for row in written for token in row}

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_typed_specials_are_text(self, tmp_path: Path, name: str, mode: str) -> None:
        self.same_ids(tmp_path, tokenizer(name, mode), ODD + TEXTS)

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_ids_of_real_texts_are_equal(self, tmp_path: Path, name: str, mode: str) -> None:
        if not REAL.exists():
            pytest.skip("needs ../shared/data")
        with gzip.open(REAL, "rt", encoding="utf-8", newline="") as file:
            texts = [row["Plot"] for row, _ in zip(csv.DictReader(file), range(1000), strict=False)]
        config = {"name": name} | ({"vocab_size": 1000} if name == "bpe" else {"minfreq": 2})
        words = build("tokenizer", config).fit([normalise(text, mode) for text in texts[:500]], mode)
        self.same_ids(tmp_path, words, texts)

    def same_ids(self, folder: Path, words: Tokenizer, texts: list[str]) -> None:
        untrained.run(folder, words)
        theirs = self.transformers.AutoTokenizer.from_pretrained(export("latest", outputs=str(folder / "out")))
        assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (BOS, EOS, PAD)
        for text in texts:
            ids = words.encode(normalise(text, words.normalise))
            assert theirs(text).input_ids == [BOS, *ids], text
            spaced = words.config.name == "word" and words.normalise == "clean" and bool(ids)
            assert theirs.decode([BOS, *ids, EOS, PAD], skip_special_tokens=True) == " " * spaced + words.decode(ids)

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_pipelines_continue_the_text_as_we_do(
        self, tmp_path: Path, name: str, mode: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        untrained.run(tmp_path, tokenizer(name, mode))
        pipe = self.transformers.pipeline("text-generation", model=str(export("latest", outputs=str(tmp_path / "out"))))
        capfd.readouterr()
        [found] = pipe("the army", do_sample=False, max_new_tokens=5)
        ours = load(tmp_path / "out" / "run", precision="fp32").generate("the army", "greedy", max_new_tokens=5)
        assert found["generated_text"] == ours
        assert "max_length" not in "".join(capfd.readouterr())

    def test_the_harness_gets_our_nats(self, tmp_path: Path) -> None:
        """As lm-eval does with add_bos_token=False: <BOS> before ids that were read without special tokens."""
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        run = Run.open(tmp_path / "out" / "run")
        for text in ("the army general", "a dog and a dragon fight over a river"):
            ids = words(text, add_special_tokens=False).input_ids
            assert ids == run.tokenizer().encode(text)
            with torch.inference_mode():
                scores = theirs(torch.tensor([[BOS, *ids[:-1]]])).logits[0].log_softmax(-1)
                nats = run.model().nats(torch.tensor([[BOS, *ids[:-1]]]), torch.tensor([ids]))
            assert -scores[range(len(ids)), ids].sum().item() == pytest.approx(nats.sum().item(), abs=1e-4)

    def test_the_cards_own_lines_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = out(tmp_path)
        capsys.readouterr()
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert code
        exec(code[1].replace("path/to/this/folder", str(folder)), {})
        assert capsys.readouterr().out.startswith("the army general")


@pytest.mark.slow
def test_a_space_starts_from_its_own_folder(tmp_path: Path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    pytest.importorskip("gradio")
    folder = shutil.move(out(tmp_path, "space"), tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    where = [sys.executable, "-c", "import nanolm; print(nanolm.__file__)"]
    package = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(package.strip()).is_relative_to(folder)
    with open(tmp_path / "log", "w") as log:
        page = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 100
        while f":{port}" not in (tmp_path / "log").read_text() and page.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        assert page.poll() is None, (tmp_path / "log").read_text()
        client = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
        text = client.predict("The army <EOS>!", "greedy", 1.0, 5, api_name="/write")
        assert text.startswith("the army eos .") or text.startswith("the army <UNK> .")
        assert len(client.predict("", "sample", 1.0, 8, api_name="/write").split()) <= 8
        for wrong in (
            ("x", "nonsense", 1.0, 5),
            ("x", "sample", -1.0, 5),
            ("x", "sample", 1.0, 10**9),
            (5, "beam", 1.0, None),
        ):
            with pytest.raises((gradio_client.exceptions.AppError, ValueError)):
                client.predict(*wrong, api_name="/write")
        assert client.predict("the", "beam", 1.0, 3, api_name="/write").startswith("the")
    finally:
        page.terminate()
        page.wait(10)
