#!/bin/bash
# torch 2.13.0 (Linux wheel for CPUs, whose OpenMP is libgomp), 2026-11-30
# One would have sworn: how long OpenMP's threads spin before they sleep is fixed when torch is imported (OMP_WAIT_POLICY,
# GOMP_SPINCOUNT); nothing in a process changes it later, least of all a thread that sleeps.
# What happens: libgomp counts the threads of all teams that there are, and as soon as these are more than cores, all of them spin 300
# times less. Every Python thread that has once run one parallel operation keeps a team. So one such thread, asleep for good, changes how
# all others wait, until it ends: what waits then uses a twentieth of the CPU time. Beside other processes
# that is worth a factor (a training on two cores kept 33% of its speed without that thread, 71% with it), and alone it costs 8 to 9%.
# Seen (2 cores of an Intel Xeon; CPU seconds of 300 operations with pauses of 2 ms): 0.65 without, 0.03 with, 0.65 after it ended.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > spin.py <<'END'
import os
import threading
import time

import torch

cores = len(os.sched_getaffinity(0))
assert cores > 1, "needs two cores"
torch.set_num_threads(cores)
x = torch.ones(cores << 15)  # large enough to be shared out


def cpu_seconds():
    begun = time.process_time()
    for _ in range(300):
        x.neg_()
        time.sleep(0.002)
    return time.process_time() - begun


def idle():
    torch.ones(cores << 15).neg_()
    ready.set()
    end.wait()


cpu_seconds()
before = cpu_seconds()
ready, end = threading.Event(), threading.Event()
thread = threading.Thread(target=idle)
thread.start()
ready.wait()
beside = cpu_seconds()
end.set()
thread.join()
after = cpu_seconds()
print(f"CPU seconds: {before:.2f} alone, {beside:.2f} beside a thread that sleeps, {after:.2f} when it has ended")
assert beside < 0.6 * min(before, after)
END
v/bin/python spin.py
