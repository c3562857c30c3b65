"""The corpora that everybody knows, the Hub, and addresses: none of these tests needs a network."""

import http.server
import io
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from omegaconf import OmegaConf
from pyarrow import parquet

from nanolm.cli.configs import CONF
from nanolm.corpus.corpus import load_corpus
from nanolm.data.hub import Hub
from nanolm.data.named import Named
from nanolm.errors import ConfigError, DataError
from nanolm.tokenizer.char import CharConfig

REAL = Path(__file__).parents[2] / "shared" / "data"
CORPORA = ("shakespeare", "tinystories", "wikitext2", "wikitext103", "text8", "babylm")
WIKI = "".join(f"\n = Title {n} = \n\n Text {n} of <unk> .\n\n = = Part = = \n\n More .\n" for n in range(30))
STORIES = "".join(f"Once there was {n}.\n\nThe end.\n<|endoftext|>\n" for n in range(30))
SIX = STORIES[: STORIES.index("Once there was 6")]
FORMS = {  # what each corpus looks like where it is published
    "shakespeare": {"path": ("input.txt", "First Citizen:\nSpeak, speak.\n\n" * 99)},
    "text8": {"path": ("text8.zip", " anarchism originated as a term of abuse" * 99)},
    "tinystories": {
        "train_path": ("t.txt", STORIES),
        "val_path": ("v.txt", SIX),
    },
    "babylm": {key: (f"{key}.zip", "you want this ?\n" * 9) for key in ("train_path", "val_path", "test_path")},
    "wikitext2": {key: (f"wiki.{key}.tokens", WIKI) for key in ("train_path", "val_path", "test_path")},
    "wikitext103": {key: (f"{key}.parquet", WIKI) for key in ("train_path", "val_path", "test_path")},
}
COUNTS = {"shakespeare": 1, "text8": 1, "tinystories": 36, "babylm": 27, "wikitext2": 90, "wikitext103": 90}


def known(name: str, **how: Any) -> Named:
    """The corpus of conf/data/<name>.yaml."""
    values: Any = OmegaConf.to_container(OmegaConf.load(Path(CONF, "data", f"{name}.yaml")))
    values.pop("defaults")
    return Named(**values | how)


def write(path: Path, text: str) -> str:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.train", text)
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({"text": text.splitlines(keepends=True)}), path)
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", CORPORA)
def test_a_copy_of_each_form_is_read_as_its_corpus(name: str, tmp_path: Path) -> None:
    paths: dict[str, Any] = {key: write(tmp_path / file, text) for key, (file, text) in FORMS[name].items()}
    config = known(name, **paths, expected_bytes=None, expected_documents=None, dedup=False)
    corpus = load_corpus(config, tmp_path)
    assert corpus.counts["read"] == COUNTS[name]
    assert corpus.normalise == ("none" if name in ("shakespeare", "text8") else "clean")
    assert not any("endoftext" in text for text in corpus.texts("train"))
    assert config.source.startswith("http")
    assert config.licence
    assert config.corpus == name


def test_a_cut_download_is_refused_and_another_version_told(tmp_path: Path) -> None:
    path = write(tmp_path / "input.txt", "To be, or not.\n" * 200)
    with pytest.raises(DataError, match=r"data=shakespeare: 3,000 bytes of 1,115,394: the download was cut; fetch it"):
        load_corpus(known("shakespeare", path=path), tmp_path)
    corpus = load_corpus(known("shakespeare", path=path, expected_bytes=2000, expected_documents=2), tmp_path)
    assert corpus.notes[-2:] == [
        "data=shakespeare: 3,000 bytes instead of 2,000: this is another version of it",
        "data=shakespeare: 1 documents instead of 2: this is another version of it",
    ]
    assert load_corpus(known("shakespeare", path=path, expected_bytes=None), tmp_path).notes[1:] == []
    zipped = write(tmp_path / "text8.zip", "of the " * 500)
    with pytest.raises(DataError, match=r"data=text8: 3,500 bytes of 100,000,000: the download was cut"):
        load_corpus(known("text8", path=zipped), tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="no shared data")
def test_the_real_shakespeare_is_split_as_nanogpt_does(tmp_path: Path) -> None:
    corpus = load_corpus(known("shakespeare", path=str(REAL / "tinyshakespeare.txt.gz")), tmp_path)
    assert corpus.notes == ["one long document, cut into train, val in a row"]
    assert len(CharConfig().fit(corpus.texts("train"), "none")) == 65 + 4
    val = 1 - len(corpus.texts("train")[0]) / 1115394
    assert val == pytest.approx(0.1, abs=1e-4)


@pytest.mark.skipif(not REAL.exists(), reason="no shared data")
def test_the_real_wikitext_has_its_articles(tmp_path: Path) -> None:
    path = str(REAL / "wikitext2_valid.txt.gz")
    counts: Counter[str] = Counter()
    config = known("wikitext2", train_path=path, val_path=path, test_path=path, unescape=True)
    texts = list(config.official_splits(counts)["val"])
    assert len(texts) == 60
    assert texts[0].startswith(" = Homarus gammarus = \n")
    assert not any(" @-@ " in text or " @.@ " in text for text in texts)


# Addresses.


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves FILES; of `cut` less than it promises."""

    FILES: dict[str, bytes] = {}  # noqa: RUF012
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        data = self.FILES.get(self.path)
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write((data or b"")[: 3 if "cut" in self.path else None])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    found = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


def test_an_address_is_fetched_once(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        for name in ("a/x.train", "b/x.train"):
            archive.writestr(name, f"you want {name} ?\n")
    Handler.FILES = {"/data.zip": text.getvalue(), "/cut.txt": b"0123456789"}
    Handler.asked = 0
    for _ in range(2):
        for inside in ("", "/a/*"):
            config = known(
                "babylm", train_path=f"{server}/data.zip{inside}", val_path=f"{server}/data.zip/b/*", test_path=None
            )
            parts = {split: list(texts) for split, texts in config.official_splits(Counter()).items()}
            assert parts["val"] == ["you want b/x.train ?\n"]
            assert len(parts["train"]) == (1 if inside else 2)
    assert Handler.asked == 1
    assert f"fetching {server}/data.zip to {tmp_path}/home/nanolm/" in capsys.readouterr().err
    for name, why in (("cut.txt", "3 of 10 bytes came"), ("missing.txt", "HTTP Error 404")):
        with pytest.raises(DataError, match=rf"{name}: can't be fetched \(.*{why}.*\); check the network, or download"):
            known("shakespeare", path=f"{server}/{name}").signature()
    assert {path.suffix for path in (tmp_path / "home/nanolm").iterdir()} <= {".zip", ".lock"}, "nothing half fetched"


def test_without_a_network_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError) as error:
        known("shakespeare", path="http://127.0.0.1:9/input.txt").signature()
    assert "can't be fetched (" in str(error.value)
    assert "\n" not in str(error.value)


# The Hub's library, on a folder.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        split: [f"{split} {n}" for n in range(size)] for split, size in (("train", 30), ("validation", 3), ("test", 2))
    }
    for split, texts in rows.items():
        made = pyarrow.table({"text": texts, "meta": [{"title": text} for text in texts]})
        (tmp_path / "set").mkdir(exist_ok=True)
        parquet.write_table(made, tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "set"


@pytest.mark.parametrize("streaming", [False, True])
def test_the_hub_on_a_folder(folder: Path, tmp_path: Path, streaming: bool) -> None:
    how: dict[str, Any] = {"dataset": str(folder), "streaming": streaming}
    corpus = load_corpus(Hub(**how, val=0.2, normalise="none"), tmp_path)
    assert corpus.counts["read"] == 30
    official = load_corpus(Hub(**how, val_split="validation", test_split="test", normalise="none"), tmp_path)
    assert list(official.texts("train")) == [f"train {n}" for n in range(30)]
    assert list(official.texts("val")) == [f"validation {n}" for n in range(3)]
    assert official.counts["test"] == 2
    assert next(Hub(**how, column="meta.title").documents(Counter())) == "train 0"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"train_split": "trian"}, "can't be read after row 0 of trian: ValueError"),
        ({"column": "plot"}, "row 1 of train: no column 'plot'; data.column must be one of 'text', 'meta'"),
        ({"column": "meta"}, "row 1 of train: 'meta' is dict, not text"),
    ],
)
def test_a_wrong_name_is_one_line(folder: Path, how: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        list(Hub(dataset=str(folder), **how).documents(Counter()))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_network_or_the_library_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def no_network(*args: Any, **how: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(DataError, match=r"dataset=a/b: can't be read after .*ConnectionError: no network; check"):
        list(Hub(dataset="a/b").documents(Counter()))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets; pip install datasets"):
        list(Hub(dataset="a/b").documents(Counter()))
    with pytest.raises(ConfigError, match=r"^data\.dataset: name a data set"):
        Hub()
