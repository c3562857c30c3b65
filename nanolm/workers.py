"""Text worked on by all cores, block by block, in order.

In: a function and the blocks, or texts to cut into pieces and count. Out: its results as `map` gives them. What is
small is done here: processes are started only once so many blocks have come that they pay. The function runs in forks,
which have everything that this process has; only blocks and results are sent. Without forks all is done here (30,000
film articles: 3 s, once). Knows nothing of what the text is.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from nanolm.errors import NanolmError

BLOCK = 2**20  # characters of text, or about so many
ALONE = 16  # blocks done before other cores are asked
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FORKS = sys.platform == "linux"  # Windows has none, and macOS's own libraries may crash in one
In = TypeVar("In")
Out = TypeVar("Out")
_work: Callable[[Any], Any]  # in a fork


def spread(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """map(work, items), by all cores from the seventeenth on; at most a few items are in memory at a time."""
    waiting = iter(items)
    yield from map(work, islice(waiting, ALONE))
    following = list(islice(waiting, 1))
    import multiprocessing  # here: 10 ms that `--cfg job` need not wait for
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    if (
        not FORKS or CORES == 1 or not following or multiprocessing.current_process().daemon
    ):  # which can have no children
        yield from map(work, chain(following, waiting))
        return
    pending: deque[Future[Out]] = deque()
    try:
        with ProcessPoolExecutor(CORES, multiprocessing.get_context("fork"), _begin, (work, os.getpid())) as pool:
            for item in chain(following, waiting):
                pending.append(pool.submit(_do, item))
                if len(pending) > 2 * CORES:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise NanolmError("a process that read the text was killed; is the memory full? Give it less text") from error


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    """In a fork: ends with its parent, however that ends."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do(item: Any) -> Any:
    return _work(item)


def in_blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about BLOCK characters."""
    block, size = list[str](), 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def count(cut: Callable[[str], Sequence[str]], texts: Iterable[str]) -> Counter[str]:
    """How often each piece occurs in the texts."""
    total: Counter[str] = Counter()
    for part in spread(lambda block: Counter(chain.from_iterable(map(cut, block))), in_blocks(texts)):
        total.update(part)
    return total
