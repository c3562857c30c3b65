"""`make check`: trains `experiment=check` and says whether this machine's result is what it should be.

Exit status 1 where it is not. PROMISED is the test bits per byte that seeds 1 to 3 gave on average; BAND holds what
seeds, processors, precisions and versions of torch change.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from nanolm.runs.find import find_run
from nanolm.runs.run import Run

PROMISED, BAND = 0.5093, 0.025  # bits per byte
DOOR = Path(__file__).resolve().parent.parent / "train.py"


def main(words: list[str]) -> int:
    """Trains in a folder of its own, on what is promised or with `words` changed; 0 if the result is in the band."""
    with tempfile.TemporaryDirectory() as outputs:
        command = [sys.executable, str(DOOR), "experiment=check", "tracking=disabled", f"outputs={outputs}", *words]
        if status := subprocess.run(command, check=False).returncode:
            return status
        figures = Run.open(find_run("latest", outputs)).status()
    found, speed = figures["test_bpb"], figures["tokens_per_s"]
    kept = abs(found - PROMISED) <= BAND
    print(f"\n{'as promised' if kept else 'NOT AS PROMISED'}: test {found:.4f} bits per byte, ", end="")
    print(f"{PROMISED:.4f} +- {BAND:.4f} expected; {speed:,.0f} tokens/s, {figures['seconds']:.0f} s on this machine")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
