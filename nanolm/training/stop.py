"""Stopping when asked: ctrl-C, SIGTERM, a closed terminal (SIGHUP) or a file let the step end and the state be saved.

In: signals, a path. Out: `stop.signal`, which the loop looks at after every step; StopNow inside `stop.at_once()`.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from nanolm.sweep.children import POLL, terminate

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
PAUSE = 1.0  # seconds; torchrun sends its processes a ctrl-C that they have from the terminal already


class StopNow(BaseException):
    """Asked to stop, at a moment when nothing is lost by it; like KeyboardInterrupt, no error."""


class Stop:
    """Catches the signals while it is entered, but for those that nohup or a shell ignores for this process.

    A second ctrl-C ends the program where it stands. asked: once this file exists, it is as if SIGTERM had come.
    """

    def __init__(self, asked: Path | None = None) -> None:
        self.signal: int | None = None
        self.asked = asked
        self._over = threading.Event()
        self._poll: threading.Thread | None = None
        self._since = 0.0
        self._now = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in heeded}
        if self.asked and self._before:
            self.asked.unlink(missing_ok=True)  # of an earlier wish
            self._poll = threading.Thread(target=self._look_for_the_file, args=(self.asked,), daemon=True)
            self._poll.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._poll:
            self._poll.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises StopNow: for work that is done again from its beginning."""
        self._now = True
        try:
            if self.signal is not None:
                raise StopNow
            yield
        finally:
            self._now = False

    def _look_for_the_file(self, asked: Path) -> None:
        while not self._over.wait(POLL):
            if asked.exists():
                return terminate()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None and time.monotonic() - self._since > PAUSE
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        if self._now:
            raise StopNow
