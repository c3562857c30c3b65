"""The jobs of a sweep before they start: what their values are, and which of them can be composed.

In: overrides. Out: lines on the terminal, composed configs; a job that can't be composed has its failure recorded.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from nanolm.errors import ConfigError, one_line
from nanolm.sweep.folder import SweepFolder
from nanolm.sweep.jobs import job_name, record_failure
from nanolm.text import counted


def swept_values(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The values of each swept key as they will be given; ConfigError for a key that gets none."""
    found: dict[str, list[str]] = {}
    for override in overrides:
        if override.is_discrete_sweep():
            key = override.get_key_element()
            try:
                found[key] = list(override.sweep_string_iterator())
            except HydraException as error:  # a range without a step
                raise ConfigError(f"{override.input_line}: can't be counted out; as range(start,stop,step)") from error
            if not found[key]:
                line = f"{override.input_line}: gives no value to sweep over"
                raise ConfigError(f"{line}; a glob is for groups, as in 'tokenizer=glob(*)'")
    return found


def show_values(values: dict[str, list[str]], jobs: int) -> None:
    """`6 jobs: model.dims=128,256 model.heads=2,4,8`, a line for each key."""
    print(counted(jobs, "job"))
    for key, texts in values.items():
        print(f"  {key}: {', '.join(texts)}")


def compose(context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The config of the job with these overrides, Hydra's own part included."""
    node: DictConfig = context.config_loader.load_sweep_config(config, list(overrides))
    return node


def without_hydra(node: DictConfig) -> DictConfig:
    """The job's own config, as its task gets it."""
    own = node.copy()
    with open_dict(own):
        del own["hydra"]
    return own


def composable(
    context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]], sweep: SweepFolder
) -> list[Sequence[str]]:
    """The jobs that can be composed; of the others the failure is recorded."""
    kept = []
    for overrides in jobs:
        try:
            compose(context, config, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            record_uncomposable(sweep, overrides, error)
        else:
            kept.append(overrides)
    return kept


def record_uncomposable(sweep: SweepFolder, overrides: Sequence[str], error: Exception) -> Path:
    """Notes the failure of a job that can't be composed in a folder named by its overrides; returns that."""
    folder = sweep.path / job_name(overrides, sweep.note()["swept"], list(overrides))
    record_failure(folder, ConfigError(one_line(error)))
    sweep.mark_begun(folder.name)
    print(f"{sweep.mark_ended(folder.name)} ended: {folder.name} failed: {one_line(error)}", flush=True)
    return folder
