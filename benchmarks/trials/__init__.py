"""The trials of benchmarks/faults.py. Importing one finds nanolm and what its tests share; one thread."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
