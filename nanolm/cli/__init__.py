"""Hydra's door, what each verb can be told, and a file per verb that prints.

In: argv. Out: a checked config, a call downwards, text on the terminal. Nobody imports this room. The root scripts
import it before anything else, so what they all need is looked for here, in words that an older Python reads too.
"""

import gc
import os
import sys
from importlib.util import find_spec

ENVIRONMENT = "source .venv/bin/activate (Windows: .venv\\Scripts\\activate); `make demo` makes .venv"

if sys.version_info < (3, 11) or find_spec("hydra") is None:
    this = f"{os.path.basename(sys.argv[0])}: this Python ({sys.executable}, {sys.version.split()[0]})"
    lack = "lacks nanolm's packages" if sys.version_info >= (3, 11) else "is older than 3.11"
    raise SystemExit(f"{this} {lack}: {ENVIRONMENT}")

# Imports make objects that stay: looking among them for garbage every 700 makes importing torch take 6% longer
gc.set_threshold(50_000, 10, 10)
