"""A few of the trials of benchmarks/faults.py: processes that are really killed, and a W&B record that is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "trials"), [("kill", 5), ("term", 4), ("clock", 2)])
def test_a_few_trials(kind: str, trials: int) -> None:
    command = [sys.executable, "benchmarks/faults.py", kind, "--trials", str(trials)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[1].split()[:3] == [kind, str(trials), "0"]
