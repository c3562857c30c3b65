#!/bin/bash
# hydra-core 1.3.8, with numpy 2.4.6 for comparison, 2026-11-28
# One would have sworn: the sweep range(0.0,0.4,0.1) is four jobs: the stop is left out, as in Python's range.
# What happens: the step is added up in floats, so whether the stop is left out depends on rounding that falls short of it:
# 0.4 and 0.8 come in, 0.3 and 0.5 don't. numpy.arange has its own traps, but counts these right.
# Seen: stop 0.3: 3 jobs; 0.4: 5; 0.5: 5; 0.8: 9. numpy: 3, 4, 5, 8.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q hydra-core==1.3.8 numpy==2.4.6

v/bin/python - <<'END'
import numpy
from hydra.core.override_parser.overrides_parser import OverridesParser

counts = {}
for stop in (0.3, 0.4, 0.5, 0.8):
    override = OverridesParser.create().parse_override(f"lr=range(0.0,{stop},0.1)")
    jobs = list(override.sweep_string_iterator())
    counts[stop] = len(jobs), len(numpy.arange(0.0, stop, 0.1))
    print(f"range(0.0,{stop},0.1): {len(jobs)} jobs, to {jobs[-1]}; numpy: {counts[stop][1]}")
assert counts == {0.3: (3, 3), 0.4: (5, 4), 0.5: (5, 5), 0.8: (9, 8)}
END
