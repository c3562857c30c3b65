"""Exports that leave this machine: pushed to the Hub, or a Space that runs by itself."""

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
import untrained
from exported import ROOT, out

from nanolm.errors import NanolmError
from nanolm.export.export import export


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
