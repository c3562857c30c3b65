"""A run is a folder, and it is self-sufficient: config, tokenizer, weights, figures, and checksums of them.

In: a folder that training writes. Out: its parts, each verified on reading, or a RunError naming the file and the mend.
Knows the names of the files and no training; `config.json` is plain data, never interpolated.
"""

import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nanolm.config import build, fill
from nanolm.corpus.corpus import Corpus, load_corpus
from nanolm.data.base import DataConfig
from nanolm.errors import ConfigError, DataError, NanolmError, RunError
from nanolm.files import is_link_or_special, read_json, sha256, write_json
from nanolm.locks import try_lock
from nanolm.model.config import ModelConfig
from nanolm.model.fast.restore import is_rounded, restored
from nanolm.model.transformer import Transformer
from nanolm.runs.weights import read_weights
from nanolm.tokenizer.base import Tokenizer, load_tokenizer

FORMAT = 1  # raised when an older nanolm could no longer read a run; older runs keep loading
BEST, LAST, PREVIOUS = "best.safetensors", "last.safetensors", "previous.safetensors"
KEPT = re.compile(r"step-(\d+)\.safetensors")  # with keep_every
MEND = "copy the run folder again, or train it again"


class Run:
    """An open run folder: `config` (plain dict), and `manifest`: format, id, created, plan, changed, files' checksums.

    config.json never changes; what a resumed run is given anew (budget, tracking, device) is `changed`.
    """

    def __init__(self, folder: Path, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        self.folder, self.config, self.manifest = folder, config, manifest
        self._tokenizer: Tokenizer | None = None

    @classmethod
    def create(
        cls, folder: Path, config: dict[str, Any], plan: dict[str, Any], writers: Mapping[str, Callable[[Path], None]]
    ) -> "Run":
        """Writes the files that never change (`writers`: name -> function of the path), the config, then the manifest.

        The manifest comes last: a folder without one holds nothing worth going on with.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            write(folder / name)
        write_json(folder / "config.json", config)
        created = datetime.now().isoformat(timespec="seconds")
        manifest = {"format": FORMAT, "id": secrets.token_hex(4), "created": created, "plan": plan, "files": {}}
        run = cls(folder, config, manifest)
        run.list_files("config.json", *writers)
        return run

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """The run in `folder`; raises NanolmError if it is no run, of a newer format, or its config is damaged."""
        folder = Path(folder)
        if not cls.resumable(folder):
            raise RunError(f"{folder}: no run folder (it has no manifest.json); python train.py makes one")
        for path in folder.iterdir():  # what a stranger's link points at is neither read nor written; a pipe would wait
            if is_link_or_special(path):
                raise RunError(f"{path}: is a link or no file; a run keeps its own files: copy the folder with cp -rL")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or not all(isinstance(manifest.get(key), dict) for key in ("files", "plan")):
            raise RunError(f"{folder / 'manifest.json'}: damaged; {MEND}")
        if manifest.get("format") not in range(1, FORMAT + 1):
            raise RunError(f"{folder}: run format {manifest.get('format')}, known is {FORMAT} at most; update nanolm")
        run = cls(folder, {}, manifest)
        config, changed = read_json(run.file("config.json")), manifest.get("changed", {})
        if not isinstance(config, dict) or not isinstance(changed, dict):
            raise RunError(f"{folder / 'config.json'}: holds no config; {MEND}")
        run.config = config | changed
        return run

    @staticmethod
    def resumable(folder: Path) -> bool:
        """Whether training has begun in `folder`: a run without a checkpoint resumes at its start."""
        return (folder / "manifest.json").exists()

    def word(self, key: str) -> str:
        """`key=FOLDER`, as it is typed in a shell."""
        return shlex.quote(f"{key}={self.folder}")

    def list_files(self, *names: str) -> None:
        """Adds the checksums of these files to the manifest, and writes it."""
        self.manifest["files"] |= {name: sha256(self.folder / name) for name in names}
        write_json(self.folder / "manifest.json", self.manifest)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists, once its checksum has been verified."""
        path = self.folder / name
        if not path.is_file():
            raise RunError(f"{path}: missing; {MEND}")
        if sha256(path) != self.manifest["files"].get(name):
            raise RunError(f"{path}: damaged, its checksum differs from manifest.json's; {MEND}")
        return path

    def kept(self) -> dict[int, Path]:
        """The checkpoints that `keep_every` has kept, by their steps, the first one first."""
        found = {
            int(match[1]): self.folder / name for name in self.manifest["files"] if (match := KEPT.fullmatch(name))
        }
        return dict(sorted(found.items()))

    def status(self) -> dict[str, Any]:
        """state (running, finished, interrupted, failed), corpus, val_bpb, test_bpb, step, seconds, error ..."""
        status = read_json(self.folder / "status.json")
        listed = self.manifest["files"].get("status.json")  # once the run is finished
        if not isinstance(status, dict) or listed not in (None, sha256(self.folder / "status.json")):
            raise RunError(f"{self.folder / 'status.json'}: damaged; python train.py {self.word('resume')} mends it")
        return status

    def update_status(self, **fields: Any) -> None:
        """Merges `fields` into status.json."""
        old = self.status() if (self.folder / "status.json").exists() else {}
        write_json(self.folder / "status.json", old | fields)
        if (old | fields).get("state") == "finished":
            self.list_files("status.json")

    def finished(self) -> bool:
        """Whether the run fulfilled its plan; a status that can't be read says no."""
        try:
            return self.status().get("state") == "finished"
        except NanolmError:
            return False

    def data(self) -> DataConfig:
        """The config of the run's own data."""
        return build("data", self.config.get("data", {}))

    def corpus(self, cache: Path, path: Any = None) -> Corpus:
        """The corpus that it was trained on, which may lie in `path` now; NanolmError where it has gone or changed."""
        data = self.data()
        if path is not None:
            if not hasattr(data, "path"):
                raise ConfigError(f"data.path={path}: the run's data={data.name} is in no file; leave it out")
            moved: dict[str, Any] = {"path": path}
            data = replace(data, **moved)
        else:
            check_fetches_nothing(self.folder, data)
        try:
            corpus = load_corpus(data, cache, needs=())
        except DataError as error:
            raise DataError(f"{error}{'' if path else if_moved(data)}") from error
        if corpus.fingerprint == self.status().get("corpus"):
            return corpus
        if path is not None:
            other = f"to score it as other text, give data={data.name} data.path={path}"
            raise RunError(f"data.path={path}: not the text that {self.folder} was trained on; {other}")
        mend = "put it back, or give data.path=COPY of the text as it was"
        raise RunError(f"{self.folder}: its data has changed since the training; {mend}")

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer; read once."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.file("tokenizer.json"))
        return self._tokenizer

    def weights(self, which: str = "best") -> Path:
        """The file of the best or the last weights, or of those of `step-500`, which `keep_every` has kept.

        Before the first evaluation the best are the last, with a word.
        """
        if which not in ("best", "last"):
            if (name := f"{which}.safetensors") not in map(kept_name, self.kept()):
                there = ", ".join(["best", "last", *(path.stem for path in self.kept().values())])
                raise ConfigError(f"which={which}: {self.folder} has no such weights; there are {there}")
            return self.file(name)
        path = self.folder / {"best": BEST, "last": LAST}[which]
        if not path.exists() and (self.folder / LAST).exists():
            print(f"{self.folder}: not evaluated yet, so its last weights are taken as the best", file=sys.stderr)
            return self.folder / LAST
        if not path.exists():
            raise RunError(f"{path}: missing; the run has no weights yet: python train.py {self.word('resume')}")
        return path

    def model(self, which: str = "best") -> Transformer:
        """The model with the weights `which`, in eval mode on the CPU; `load.py` makes it ready for use.

        The weights are as they lie in the file, which may be int8 (export.py writes such runs).
        """
        path = self.weights(which)
        tensors, _ = read_weights(path, part="model/" if path.name == LAST else "")
        config = fill(ModelConfig, self.config.get("model", {}), "model")
        return restored(path, config, self.tokenizer().vocabulary, tensors)

    def trained(self) -> Transformer:
        """The model with its best weights as trained; RunError where the folder holds rounded ones only."""
        model = self.model()
        if is_rounded(model.state_dict()):
            raise RunError(f"{self.folder}: its weights are int8, for writing only; take the run that they came from")
        return model

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Nobody else trains in this folder meanwhile, else RunError; what a killed process left in it is cleared."""
        lock = try_lock(self.folder / ".lock")
        if lock is None:
            raise RunError(f"{self.folder}: another process is training it; wait for its end or stop it")
        try:
            for part in (*self.folder.glob(".*.part"), *self.folder.glob(".tmp*")):  # half a file, ours or safetensors'
                part.unlink()
            yield
        finally:
            lock.release()


def kept_name(step: int) -> str:
    """The file of the weights of a step that `keep_every` has kept."""
    return f"step-{step}.safetensors"


def if_moved(data: DataConfig) -> str:
    """What to add to the error where the run's own text isn't found."""
    return "; if it has moved, give data.path=NEW" if hasattr(data, "path") else ""


def check_fetches_nothing(folder: Path, data: DataConfig) -> None:
    """RunError where the text of a run, perhaps a stranger's, would be fetched from an address that nobody typed."""
    if addresses := data.to_fetch():
        mend = f"fetch it by naming it: data.path={addresses[0]}"
        raise RunError(f"{folder}: its text is at {addresses[0]}, which isn't fetched because a run says so; {mend}")
