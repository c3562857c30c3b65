"""How threads wait beside other work: what starts and ends, and when."""

import os
import platform
import subprocess
import sys
import threading

import pytest

from nanolm import spinning
from nanolm.spinning import needed, spin_unless_busy, waited

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")

TEAMS = """
import os, time, torch
from nanolm.spinning import IdleTeams

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(3)
torch.ones(1 << 20).neg_()
teams, alone, idle = IdleTeams(), threads(), len(os.sched_getaffinity(0)) // 2 * 3
for busy in (False, True, True, False, True, False):
    teams.keep(busy)
    end = time.monotonic() + 60
    while threads() != alone + idle * busy:  # they take a moment to end
        assert time.monotonic() < end, (threads(), alone, busy)
torch.set_num_threads(1)
teams.keep(True)
assert not teams.threads  # a single thread waits for nobody
"""


@linux_only
def test_idle_teams_come_and_go() -> None:
    """So that there are more threads than cores."""
    done = subprocess.run([sys.executable, "-c", TEAMS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kept", "share", "now"),
    [(False, 0.02, False), (False, 0.5, True), (True, 0.5, True), (True, 0.05, True), (True, 0.01, False)],
)
def test_idle_teams_are_for_a_busy_machine(kept: bool, share: float, now: bool) -> None:
    assert needed(kept, share) is now


@linux_only
def test_each_thread_tells_how_long_it_had_no_core() -> None:
    assert waited().get(str(threading.main_thread().native_id), -1.0) >= 0


@pytest.mark.parametrize(
    ("environment", "told", "looks"),
    [({}, {"1": 0.0}, True), ({}, {}, False), ({"OMP_WAIT_POLICY": "ACTIVE"}, {"1": 0.0}, False)],
)
def test_who_looks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: dict[str, float], looks: bool
) -> None:
    """Nobody where the environment says how to wait, or the kernel doesn't say who has waited."""
    looked = threading.Event()
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(spinning, "waited", lambda: told)
    monkeypatch.setattr(spinning, "_watch", looked.set)
    spin_unless_busy.__wrapped__()
    assert looked.wait(60 if looks else 0.1) is looks
