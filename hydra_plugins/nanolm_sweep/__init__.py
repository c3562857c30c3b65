"""nanolm's sweepers and launchers under the name that Hydra looks for; what they do is in nanolm/sweep/.

Hydra loads every plugin at every start, so nothing heavy is imported here.
"""

from nanolm.sweep.grid import Grid


class GridSweeper(Grid):
    """hydra/sweeper=grid."""
