#!/bin/bash
# hydra-optuna-sweeper 1.3.0, optuna 2.10.1, numpy 2.4.6, scikit-learn 1.9.1, 2026-11-29
# One would have sworn: what pip resolves without a conflict works together; optuna 2.10.1, which the sweeper of Hydra asks for, sets
# numpy no upper bound, its samplers run, and so do its parameter importances.
# What happens: get_param_importances with its default evaluator (fANOVA) raises a ValueError on every study, where it puts an array of
# one element into a row of numbers: from numpy 1.24 on, so with every numpy that today's Pythons install. The other evaluator, mean
# decrease impurity, works.
# Seen: numpy 2.4.6: fanova ValueError, impurity a first; numpy 1.24.4 (scikit-learn 1.2.2): the same; numpy 1.23.5: fanova a first.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
cat > importances.py <<'END'
import warnings

warnings.simplefilter("ignore")
import optuna
from optuna.importance import FanovaImportanceEvaluator, MeanDecreaseImpurityImportanceEvaluator, get_param_importances

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
study.optimize(lambda trial: 10 * trial.suggest_uniform("a", 0, 1) + trial.suggest_uniform("b", 0, 1), n_trials=60)
words = []
for name, evaluator in ("fanova", FanovaImportanceEvaluator(seed=1)), ("impurity", MeanDecreaseImpurityImportanceEvaluator(seed=1)):
    try:
        words.append(f"{name} {next(iter(get_param_importances(study, evaluator=evaluator)))} first")
    except Exception as error:
        words.append(f"{name} {type(error).__name__}")
print(", ".join(words))
END
python3 -m venv new
new/bin/pip install -q hydra-optuna-sweeper==1.3.0 optuna==2.10.1 numpy==2.4.6 scikit-learn==1.9.1 'setuptools<81'
python3 -m venv old
old/bin/pip install -q optuna==2.10.1 numpy==1.23.5 scikit-learn==1.2.2 scipy==1.10.1 'setuptools<81'
now=$(new/bin/python importances.py)
before=$(old/bin/python importances.py)
old/bin/pip install -q numpy==1.24.4
between=$(old/bin/python importances.py)
echo "numpy 2.4.6: $now"
echo "numpy 1.24.4: $between"
echo "numpy 1.23.5: $before"
[ "$now" = "fanova ValueError, impurity a first" ] && [ "$between" = "$now" ] && [ "$before" = "fanova a first, impurity a first" ]
