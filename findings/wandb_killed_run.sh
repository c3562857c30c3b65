#!/bin/bash
# wandb 0.31.0, offline, 2026-11-28
# One would have sworn: what log() was given survives a kill of the training process, as a second process (wandb-core) takes it and
# writes it down.
# What happens: wandb-core writes when its buffer fills (100 steps at once do that) or every 15 seconds. When the training process gets a SIGKILL (out of
# memory, a job's time limit), wandb-core ends too, without writing what it holds: of a run of 8 seconds nothing is left, not even
# its name and config. The setting x_transaction_log_flush_interval=0.5 keeps it.
# Seen: finished: 3790 bytes; killed: 7 bytes; killed, with the setting: 3631 bytes.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q wandb==0.31.0

cat > run.py <<'END'
# run.py FOLDER INTERVAL END: ten steps of half a second, three seconds of work, and the end
import os
import signal
import sys
import time

import wandb

folder, interval, end = sys.argv[1:]
os.makedirs(folder)
options = {"x_transaction_log_flush_interval": float(interval)} if interval != "default" else {}
run = wandb.init(project="p", dir=folder, mode="offline", settings=wandb.Settings(silent=True, **options))
for step in range(10):
    run.log({"loss": step})
    time.sleep(0.5)
time.sleep(3)
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish()
END
size() { # FOLDER INTERVAL END: bytes of the run's log, after wandb-core has had 5 seconds to write it
  v/bin/python run.py "$@" || true
  sleep 5
  cat "$1"/wandb/offline-run-*/run-*.wandb | wc -c
}
finished=$(size finished default finished 2> /dev/null)
killed=$(size killed default killed 2> /dev/null)
flushed=$(size flushed 0.5 killed 2> /dev/null)
echo "finished: $finished bytes; killed: $killed bytes; killed, flushed every 0.5 s: $flushed bytes"
[ "$finished" -gt 1000 ] && [ "$killed" -lt 100 ] && [ "$flushed" -gt 1000 ]
