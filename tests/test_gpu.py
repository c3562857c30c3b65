"""benchmarks/gpu.py, as far as a CPU can try it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_dry_run_makes_every_check_and_table() -> None:
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu.py", "--dry"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count(" ok (") == 14
    for word in ("| tiny | eager |", "| tiny | transformers |", "| prompts |", "| joblib |", "\n0 checks failed"):
        assert word in done.stdout


@pytest.mark.slow
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "benchmarks/gpu.py"]
    environment = {"PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr.strip()[:12]) == (2, "no GPU that ")
