"""One writing at a time, whoever asks; and one that nobody waits for any more ends at the model's next step.

In: work for the model. Out: what it gives, as it comes. Gradio bounds how many calls run at once, but gives the place
of a cancelled call away while its function still runs: so the model's turn is taken here. Knows no page.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio.to_thread

from nanolm.generator import Generator

PAUSE = 0.1  # seconds between two looks at what has come; so long a cancelled writing may go on unnoticed
T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for the result any more."""


class InterruptibleModel:
    """A model for decoding, whose `step` raises Stopped once `stop` is set."""

    def __init__(self, model: Any, stop: threading.Event) -> None:
        self._model, self._stop = model, stop

    def step(self, *inputs: Any) -> Any:
        """The model's own step."""
        if self._stop.is_set():
            raise Stopped
        return self._model.step(*inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def interruptible(generator: Generator, stop: threading.Event) -> Generator:
    """The same generator, its writing ended by `stop`."""
    made = Generator(generator.model, generator.tokenizer, generator.run, generator.tell)
    made.model = InterruptibleModel(made.model, stop)  # type: ignore[assignment]
    return made


class Worker:
    """Gives the model's turn to one piece of work after the other. Work is told by an event when to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[None]:
        """Waits for the turn and keeps it; Stopped where `stop` is set before it comes."""
        while not self._lock.acquire(timeout=PAUSE / 2):
            if stop.is_set():
                raise Stopped
        try:
            yield
        finally:
            self._lock.release()

    async def call(self, work: Callable[[threading.Event], T]) -> T:
        """What `work` returns, from a thread; when the caller is cancelled, `work` is told to stop."""
        stop = threading.Event()

        def run() -> T:
            with self.turn(stop):
                return work(stop)

        try:
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
        finally:
            stop.set()

    def stream(self, work: Callable[[threading.Event], Iterable[T]]) -> Iterator[list[tuple[float, T]]]:
        """Every PAUSE seconds what `work` has given since, each with its moment; `work` is told when this is closed."""
        stop, given = threading.Event(), queue.SimpleQueue[Any]()

        def run() -> None:
            end: BaseException | None = None
            try:
                with self.turn(stop):
                    for item in work(stop):
                        given.put((time.perf_counter(), item))
            except Exception as error:
                end = error
            given.put(end)

        threading.Thread(target=run, daemon=True).start()
        try:
            ended = False
            while not ended:
                arrived, until = list[tuple[float, T]](), time.perf_counter() + PAUSE
                while not ended and (left := until - time.perf_counter()) > 0:
                    try:
                        item = given.get(timeout=left)
                    except queue.Empty:
                        break
                    if isinstance(item, BaseException):
                        raise item
                    if item is None:
                        ended = True
                    else:
                        arrived.append(item)
                yield arrived
        finally:
            stop.set()
