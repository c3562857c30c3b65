"""Writings that nobody waits for any more stop, and only one goes on at a time."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from app_runs import make_outputs, wait, written

from nanolm.app import page, write
from nanolm.app.models import Models
from nanolm.app.worker import InterruptibleModel, interruptible
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.errors import ConfigError


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_outputs(tmp_path_factory.mktemp("app"))


@pytest.fixture
def models(outputs: Path) -> Models:
    return Models(outputs, str(outputs / "words"))


class SlowModel:
    """Counts how many writings are at a step of the model at once, and when the last step was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_once = self.most = self.steps = 0
        self.lock, step = threading.Lock(), InterruptibleModel.step

        def slow(model: InterruptibleModel, *inputs: Any) -> Any:
            with self.lock:
                self.at_once += 1
                self.steps += 1
                self.most = max(self.most, self.at_once)
            time.sleep(0.02)
            try:
                return step(model, *inputs)
            finally:
                with self.lock:
                    self.at_once -= 1

        monkeypatch.setattr(InterruptibleModel, "step", slow)

    def went_on(self, before: int) -> bool:
        """Whether there were more steps than `before`."""
        return self.steps > before

    def rests(self) -> bool:
        """Whether no step is taken for a while."""
        before = self.steps
        time.sleep(0.2)
        return self.steps == before


@pytest.mark.parametrize("config", [Sample(), Beam(num_beams=2)], ids=["sample", "beam"])
def test_a_writing_that_nobody_waits_for_stops_within_a_token(
    models: Models, config: DecodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowModel(monkeypatch)
    for _ in range(3):  # each is given up while it runs: as Gradio closes what a client cancels
        writing: Any = write.write(models, "sweeps/signs", "", [dataclasses.replace(config, min_new_tokens=150)], 1)
        while slow.at_once == 0:
            next(writing)
        writing.close()
    wait(slow.rests)
    assert slow.most == 1
    assert slow.steps < 3 * 150 / 2
    assert written(models, "the", Greedy())[1], "the model's turn was never given back"


def test_a_program_that_cancels_stops_the_writing(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowModel(monkeypatch)
    generator = models.open("sweeps/signs")

    async def ask() -> None:
        decode = Beam(num_beams=2, min_new_tokens=150)
        for _ in range(2):
            asked = asyncio.create_task(
                models.worker.call(lambda stop: interruptible(generator, stop).complete([""], decode, 1))
            )
            while slow.at_once == 0:
                await asyncio.sleep(0.01)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        assert await models.worker.call(lambda _: "next") == "next"

    asyncio.run(ask())
    assert slow.rests()
    assert slow.most == 1
    assert slow.steps < 150


def test_an_error_of_the_work_reaches_whoever_asked(models: Models) -> None:
    def work(stop: threading.Event) -> Iterator[int]:
        yield 1
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        list(models.worker.stream(work))
    assert sum(len(arrived) for arrived in models.worker.stream(lambda stop: range(5))) == 5


@pytest.mark.slow
def test_clients_that_cancel_never_have_two_writings_at_once(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    slow = SlowModel(monkeypatch)
    blocks, pages = page.build_app(outputs, str(outputs / "sweeps" / "signs"))
    threading.Thread(target=page.serve, args=(blocks, pages), daemon=True).start()
    api = f"{wait(lambda: blocks.local_url)}gradio_api"
    function = next(d["id"] for d in blocks.config["dependencies"] if d["api_name"] == "write")
    settings = {"name": "beam", "num_beams": 2, "min_new_tokens": 150}
    for client in range(3):  # what Gradio's own script sends
        asked = {"data": ["", settings, 1, ""], "fn_index": function, "session_hash": f"client{client}"}
        event = httpx.post(f"{api}/queue/join", json=asked).json()["event_id"]
        before = slow.steps
        wait(partial(slow.went_on, before))
        httpx.post(f"{api}/cancel", json={**asked, "event_id": event})
    wait(slow.rests, 10)
    blocks.close()
    assert slow.most == 1
    assert slow.steps < 150
