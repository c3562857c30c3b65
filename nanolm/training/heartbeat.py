"""Which processes of a run are still there, and what those that have ended said last.

In: torchrun's store, a small table that all ranks read and write. Out: a RankGone that names who has gone. Every rank
says again each second that it is there. Knows no model and no run.
"""

import threading
import time
from contextlib import suppress

import torch.distributed as dist

from nanolm.errors import NanolmError, RankGone, one_line

BEAT = 1.0  # seconds after which every rank says again that it is there
LOOK = 2.0  # seconds to wait for somebody before looking whether all are there
LONGEST = 0.1  # seconds between two looks at what somebody has said
SILENCE = 50.0  # seconds without a beat after which a rank has gone: reading a text may hold its thread up
STARTING = 600.0  # seconds in which every rank must have had its first


class Heartbeat:
    """Of one rank, until it is stopped.

    beating: a connection of its own to the store, so that a wait doesn't hold the beats up. prefix: of all keys.
    """

    def __init__(self, store: dist.Store, beating: dist.Store, prefix: str, rank: int, world_size: int) -> None:
        self.store, self.prefix, self.rank, self.everybody = store, prefix, rank, range(world_size)
        self.ended = threading.Event()
        threading.Thread(target=self._beat, args=(beating,), daemon=True).start()

    def _beat(self, store: dist.Store) -> None:
        with suppress(RuntimeError):  # the connection is lost
            while not self.ended.wait(BEAT):
                store.add(f"{self.prefix}/beats/{self.rank}", 1)

    def stop(self, error: Exception | None = None) -> None:
        """The last beat; `error` is what ended this rank, told to those who wait for it."""
        self.ended.set()
        if error is not None and not isinstance(error, RankGone):
            kind = "" if isinstance(error, NanolmError) else f"{type(error).__name__}: "
            with suppress(RuntimeError):
                self.store.set(f"{self.prefix}/last_words/{self.rank}", kind + one_line(error))

    def wait(self, keys: list[str]) -> None:
        """Until all keys are in the store, for as long as every rank is there; raises RankGone."""
        beats, since = self.beats(), [time.monotonic()] * len(self.everybody)
        pause, looked = 0.001, time.monotonic()
        try:
            while not self.store.check(keys):  # its own wait says each time that it has waited, in two lines
                time.sleep(pause)
                pause, now = min(2 * pause, LONGEST), time.monotonic()
                if now - looked < LOOK:
                    continue
                looked, found = now, self.beats()
                since = [at if one == other else now for at, one, other in zip(since, beats, found, strict=True)]
                beats = found
                silent = {one for one in self.everybody if now - since[one] > (SILENCE if beats[one] else STARTING)}
                if gone := silent | self.last_words().keys():
                    raise self.gone(gone)
        except dist.DistError as error:
            raise self.who_has_gone() from error

    def beats(self) -> list[int]:
        """How often each rank has said that it is there."""
        return [self.store.add(f"{self.prefix}/beats/{one}", 0) for one in self.everybody]

    def last_words(self) -> dict[int, str]:
        """Of the ranks that ended with an error."""
        keys = {one: f"{self.prefix}/last_words/{one}" for one in self.everybody}
        return {one: self.store.get(key).decode() for one, key in keys.items() if self.store.check([key])}

    def who_has_gone(self) -> RankGone:
        """Names the ranks whose heart has stopped, which takes some seconds."""
        found: list[list[int]] = []  # the beats of each rank, twice

        def count() -> None:
            with suppress(RuntimeError):
                for pause in (3 * BEAT, 0):
                    found.append(self.beats())
                    time.sleep(pause)

        counting = threading.Thread(target=count, daemon=True)  # a store that is cut off doesn't answer at all
        counting.start()
        counting.join(6 * BEAT)
        if len(found) < 2:
            mend = "resume= goes on from the last checkpoint"
            return RankGone(f"rank {self.rank} has lost its connection to the other processes; {mend}")
        return self.gone({one for one in self.everybody if found[0][one] == found[1][one]})

    def gone(self, ranks: set[int]) -> RankGone:
        """The error that says that these have."""
        words = self.last_words()
        names = " and ".join(f"rank {one}" for one in sorted(ranks)) or "a rank"
        line = f"{names} of {len(self.everybody)} has ended or can't be reached any more; "
        line += "resume= goes on from the last checkpoint"
        if told := {one: said for one, said in words.items() if one in ranks}:
            first = min(told)
            line = f"rank {first} of {len(self.everybody)} has ended: {told[first]}"
        error = RankGone(line)
        error.speaks = 0 not in words and self.rank == min(set(self.everybody) - ranks, default=0)
        return error
