"""Checkpoints that stay: the weights of every `keep_every`-th step, the first and the last, beside the best ones.

In: a run, its setup, a step. Out: step-500.safetensors and so on, each listed in the manifest. look.py and evaluate.py
draw what a run has learnt over them.
"""

import shutil

from nanolm.errors import ConfigError
from nanolm.runs.run import Run, kept_name
from nanolm.runs.weights import write_weights
from nanolm.training.setup import Setup


def steps_to_keep(every: int | None, steps: int, done: int = -1) -> list[int]:
    """The steps after `done` whose weights stay: 0, every, 2 * every ... and the last one of the plan."""
    if every is None:
        return []
    return [step for step in [*range(0, steps, every), steps] if step > done]


def keep_weights(run: Run, setup: Setup, step: int, steps: int) -> None:
    """Writes the weights of this step where they are to stay and don't lie there yet."""
    every, name = setup.config.keep_every, kept_name(step)
    if every is None or (step % every and step != steps) or name in run.manifest["files"]:
        return
    write_weights(run.folder / name, setup.evaluated_model.state_dict(), {"step": step})
    run.list_files(name)


def forget_after(run: Run, step: int) -> None:
    """Takes away what a killed run had kept after the checkpoint that it goes on from, and will write anew."""
    gone = [path for later, path in run.kept().items() if later > step]
    run.manifest["files"] = {name: sha for name, sha in run.manifest["files"].items() if run.folder / name not in gone}
    run.list_files()
    for path in gone:
        path.unlink(missing_ok=True)


def check_room(setup: Setup, steps: int, done: int = -1) -> None:
    """ConfigError where the checkpoints that are to be kept don't fit on the disk."""
    count = len(steps_to_keep(setup.config.keep_every, steps, done))
    needed, free = count * weight_bytes(setup), shutil.disk_usage(setup.config.outputs).free
    if needed > free:
        sizes = f"{count:,} checkpoints need {needed / 2**30:,.1f} GiB, {setup.config.outputs} has {free / 2**30:,.1f}"
        raise ConfigError(f"keep_every={setup.config.keep_every}: {sizes}; raise keep_every")


def weight_bytes(setup: Setup) -> int:
    """The size of the weights of one checkpoint."""
    return sum(tensor.nbytes for tensor in setup.evaluated_model.state_dict().values())
