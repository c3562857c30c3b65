"""Says how far a sweep is whose jobs speak into files of their own, as those of submitit do, on a cluster or here.

In: the sweep's folder, in which jobs note that they begin and have ended. Out: a line for each on the terminal.
"""

import threading

from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import Job

POLL = 0.5  # seconds


class Follower:
    """A thread that prints what has newly been noted in the folder of a sweep."""

    def __init__(self, sweep: SweepFolder) -> None:
        self.sweep, self.begun, self.ended = sweep, set[str](), set[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns once everything that was noted is printed."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL):
            self.look()
        self.look()

    def look(self) -> None:
        """Prints what is new."""
        for name in self.sweep.begun():
            if name not in self.begun:
                self.begun.add(name)
                print(f"{name} begins", flush=True)
        for place, mark in enumerate(self.sweep.ended(), 1):
            if mark not in self.ended:
                self.ended.add(mark)
                job = Job.read(self.sweep.path / mark.partition(" ")[0])
                print(f"{self.sweep.share(place)} ended: {job.folder.name} {job.outcome}", flush=True)
