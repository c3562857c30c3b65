"""Stopping when asked: ctrl-C, SIGTERM and a closed terminal (SIGHUP) let the step end and the state be saved.

In: signals. Out: `stop.signal`, which the loop looks at after every step; StopNow inside `stop.at_once()`.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
PAUSE = 1.0  # seconds; torchrun sends its processes a ctrl-C that they have from the terminal already


class StopNow(BaseException):
    """Asked to stop, at a moment when nothing is lost by it; like KeyboardInterrupt, no error."""


class Stop:
    """Catches the signals while it is entered, but for those that nohup or a shell ignores for this process.

    A second ctrl-C ends the program where it stands.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._now = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None and time.monotonic() - self._since > PAUSE
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        if self._now:
            raise StopNow
