"""nanolm's sweepers and launchers under the name that Hydra looks for; what they do is in nanolm/sweep/.

Hydra loads every plugin at every start, so nothing heavy is imported here.
"""

from nanolm.sweep.grid import Grid
from nanolm.sweep.halving import SuccessiveHalving


class GridSweeper(Grid):
    """hydra/sweeper=grid."""


class HalvingSweeper(SuccessiveHalving):
    """hydra/sweeper=halving."""
