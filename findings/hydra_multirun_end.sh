#!/bin/bash
# hydra-core 1.3.8, 2026-11-28
# One would have sworn: on_multirun_end is called at the end of every sweep, like a finally and like on_run_end in a single run:
# the place to write the table of a sweep or to close what on_multirun_start opened.
# What happens: one job that raises is enough and on_multirun_end isn't called, though the sweep went on and every job has
# ended (on_job_end was called for each). A single run that raises does get its on_run_end.
# Seen: all well: start, 3 jobs, end; job 2 of 3 raises: start, 3 jobs, no end; a single run that raises: 1 job, end.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q hydra-core==1.3.8

cat > app.py <<'END'
import hydra
from hydra.experimental.callback import Callback


class Report(Callback):
    def on_multirun_start(self, config, **kwargs):
        print("SEEN start", flush=True)

    def on_job_end(self, config, job_return, **kwargs):
        print("SEEN job", flush=True)

    def on_run_end(self, config, **kwargs):
        print("SEEN end", flush=True)

    on_multirun_end = on_run_end


@hydra.main(version_base=None, config_path=".", config_name="app")
def main(config):
    if config.a == config.bad:
        raise ValueError("this job fails")


if __name__ == "__main__":
    main()
END
cat > app.yaml <<'END'
a: 1
bad: 0
hydra: {callbacks: {report: {_target_: app.Report}}}
END
seen() { { PYTHONPATH=. v/bin/python app.py "$@" 2> /dev/null || true; } | sed -n 's/^SEEN //p' | paste -sd ' '; }
well=$(seen -m a=1,2,3)
bad=$(seen -m a=1,2,3 bad=2)
single=$(seen a=1)
single_bad=$(seen a=1 bad=1)
echo "sweep, all well: $well"
echo "sweep, one raises: $bad"
echo "run, all well: $single"
echo "run, raises: $single_bad"
[ "$well" = "start job job job end" ] && [ "$bad" = "start job job job" ]
[ "$single" = "job end" ] && [ "$single_bad" = "job end" ]
