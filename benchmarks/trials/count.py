"""Counted trials. In: what was wrong with each. Out: a row of the table."""

import sys
from dataclasses import dataclass, field


@dataclass
class Count:
    """How many trials of a kind there were, and what failed in them."""

    kind: str
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, what: str, found: list[str]) -> None:
        """One trial; `found`: what was wrong with it."""
        self.trials += 1
        if self.trials % 10 == 0:
            print(f"{self.kind}: {self.trials} trials, {len(self.failures)} failures", file=sys.stderr, flush=True)
        if found:
            self.failures.append(f"{what}: {'; '.join(found)}")
            print(f"FAILED {self.failures[-1]}", file=sys.stderr, flush=True)
