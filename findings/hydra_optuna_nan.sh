#!/bin/bash
# hydra-optuna-sweeper 1.3.0, optuna 2.10.1, hydra-core 1.3.8, 2026-11-28
# One would have sworn: a job that returns nan (its loss blew up) is a failed trial: the search goes on without it.
# What happens: the sweeper itself ends in a ValueError of optuna and no further job is started. A job that returns inf is
# an ordinary bad trial. max_failure_rate, which forgives jobs that raise, doesn't help.
# Seen, of 3 jobs that all return the same: inf: 3 jobs, ended well; nan: 1 job, ValueError; nan with max_failure_rate=1: 1 job, ValueError.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q hydra-core==1.3.8 hydra-optuna-sweeper==1.3.0 optuna==2.10.1 'setuptools<81'

cat > app.py <<'END'
import hydra


@hydra.main(version_base=None, config_path=".", config_name="app")
def main(config):
    print("SEEN job", flush=True)
    return float(config.loss)


if __name__ == "__main__":
    main()
END
cat > app.yaml <<'END'
defaults: [{override hydra/sweeper: optuna}, {override hydra/sweeper/sampler: grid}]
a: 1
loss: nan
hydra: {sweeper: {n_jobs: 1, n_trials: 3, params: {a: "choice(1,2,3)"}}}
END
sweep() { # OVERRIDES: how many jobs started, and how the sweep ended
  if v/bin/python app.py -m "$@" > log 2>&1; then end="ended well"; else end=$(grep -o '^ValueError' log | head -1); fi
  echo "$(grep -c 'SEEN job' log) jobs, $end"
}
inf=$(sweep loss=inf)
nan=$(sweep loss=nan)
forgiving=$(sweep loss=nan hydra.sweeper.max_failure_rate=1)
echo "inf: $inf"
echo "nan: $nan"
echo "nan, max_failure_rate=1: $forgiving"
[ "$inf" = "3 jobs, ended well" ] && [ "$nan" = "1 jobs, ValueError" ] && [ "$forgiving" = "$nan" ]
