#!/bin/bash
# hydra-submitit-launcher 1.2.0, submitit 1.5.4, hydra-core 1.3.8, 2026-11-28
# One would have sworn: with hydra.launcher.tasks_per_node=2 a sweep fails when one of the ranks of a job raises.
# What happens: the launcher hands on what the first rank returned and drops the others. When rank 1 raises and rank 0 ends well,
# the sweep ends well: exit code 0, nothing on the terminal, nothing in the second rank's log files either: the error is only
# inside the pickle of its result.
# Seen: rank 0 raises: exit code 1, error shown; rank 1 raises: exit code 0, not shown, and only in JOB_1_result.pkl.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q hydra-core==1.3.8 hydra-submitit-launcher==1.2.0 submitit==1.5.4

cat > app.py <<'END'
import os

import hydra


@hydra.main(version_base=None, config_path=None)
def main(config):
    if os.environ["SUBMITIT_LOCAL_LOCALID"] == str(config.bad):
        raise ValueError(f"rank {config.bad} fails")


if __name__ == "__main__":
    main()
END
for rank in 0 1; do
  code=0
  v/bin/python app.py -m +bad=$rank hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2 \
    hydra.launcher.timeout_min=2 hydra.sweep.dir=sweep$rank > log$rank 2>&1 || code=$?
  echo "rank $rank raises: exit code $code, error shown: $(grep -c "rank $rank fails" log$rank || true) times"
  echo $code > code$rank
done
files=$(grep -rl "rank 1 fails" sweep1)
echo "the error of rank 1 is in: $files"
[ "$(cat code0)" != 0 ] && [ "$(cat code1)" = 0 ] && ! grep -q "rank 1 fails" log1 && [[ $files = *_1_result.pkl ]]
