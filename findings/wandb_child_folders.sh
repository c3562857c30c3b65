#!/bin/bash
# wandb 0.31.0, offline, Python's multiprocessing, 2026-11-30
# One would have sworn: a run that was finished leaves nothing but its own folder, wherever it ran.
# What happens: importing wandb makes two temporary folders (for media and for artifacts) that go when the interpreter ends. A process that multiprocessing
# has forked (fork, forkserver) ends by os._exit, which runs nothing of that kind (seen with 3.11), so every such child that imported wandb leaves two empty
# folders under TMPDIR, even after run.finish() and a return: a sweep of 1,000 jobs leaves 2,000. A spawned one leaves none, nor does one that calls atexit's
# functions at its end.
# Seen: by itself: 0 folders left; three children by forkserver: 6; three that run atexit's functions: 0; three by spawn: 0.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q wandb==0.31.0
cat > jobs.py <<'END'
# jobs.py FOLDER alone|forkserver|atexit|spawn: finished runs of one value each
import atexit
import multiprocessing
import sys


def job(folder, way):
    import wandb

    run = wandb.init(project="p", dir=folder, mode="offline", settings=wandb.Settings(silent=True))
    run.log({"loss": 1.0})
    run.finish()
    if way == "atexit":
        atexit._run_exitfuncs()


if __name__ == "__main__":
    folder, way = sys.argv[1:]
    if way == "alone":
        job(folder, way)
    else:
        for _ in range(3):
            child = multiprocessing.get_context("spawn" if way == "spawn" else "forkserver").Process(target=job, args=(folder, way))
            child.start()
            child.join()
            assert child.exitcode == 0
END
left() { # WAY: temporary folders that are still there
  mkdir -p "tmp-$1" "runs-$1"
  TMPDIR=$d/tmp-$1 v/bin/python jobs.py "runs-$1" "$1" > /dev/null 2>&1
  find "tmp-$1" -mindepth 1 -maxdepth 1 \( -name "*wandb-media" -o -name "*wandb-artifacts" \) | wc -l
}
alone=$(left alone)
forked=$(left forkserver)
cleaned=$(left atexit)
spawned=$(left spawn)
echo "by itself: $alone folders left; three children by forkserver: $forked; three that run atexit's functions: $cleaned; three by spawn: $spawned"
[ "$alone" = 0 ] && [ "$forked" = 6 ] && [ "$cleaned" = 0 ] && [ "$spawned" = 0 ]
