"""A budget in minutes, kept while the machine grows slower or faster: what is left of the plan is reckoned anew.

In: a plan, and how far the run has come. Out: how many steps it is to have in all. Each change stands in the plan with
the step since which it counts, so a run that goes on from an earlier checkpoint takes the same steps again.
"""

from collections.abc import Mapping
from typing import Any

from nanolm.training.plan import steps_at
from nanolm.training.progress import Progress

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the budget, after which it looks
WINDOW = 0.05  # of the budget: the least that speed is measured over
TOLERANCE = 0.1  # of the budget: a plan that misses it by less stays
EARLY = 0.25  # of the budget: half of the steps done by then were planned while something held the machine up


class Pace:
    """What the steps took since it looked last."""

    def __init__(self, plan: Mapping[str, Any], progress: Progress) -> None:
        self.plan, self.step, self.seconds = plan, progress.step, progress.training
        self.budget = 60 * (plan["minutes"] or 0.0)

    def due(self, progress: Progress) -> bool:
        """Whether to look: at each of SHARES, and where the plan is half done EARLY; but not where it knows already how
        it went on."""
        decided = self.plan["changes"][-1][0] if self.plan["changes"] else -1
        if progress.step <= decided:
            return False
        planned = steps_at(self.plan, progress.step)
        half = 2 * progress.step >= planned and 4 * (progress.step - self.step) >= planned
        if half and progress.training < EARLY * self.budget:
            return True
        if progress.training - self.seconds < WINDOW * self.budget:
            return False
        return any(self.seconds < share * self.budget <= progress.training for share in SHARES)

    def look(self, progress: Progress) -> int:
        """The steps in all that keep to the budget at the speed since the last look; those planned where they do."""
        planned, left = steps_at(self.plan, progress.step), self.budget - progress.training
        speed = (progress.step - self.step) / (progress.training - self.seconds)
        self.step, self.seconds = progress.step, progress.training
        if abs((planned - progress.step) / speed - left) <= TOLERANCE * self.budget:
            return planned
        return progress.step + max(0, round(left * speed))
