"""Successive halving: which configurations go on from a rung, as far as that is certain.

In: results of jobs at rungs, in any order. Out: which jobs are due, and how far. Trains nothing, reads no files.
A rung is a share of each job's own plan; the best 1/eta of the configurations go on from it (Jamieson & Talwalkar 2016,
https://arxiv.org/abs/1502.07943). Side by side, a configuration goes on as soon as its place is certain; unlike with
ASHA (Li et al. 2020), which promotes on what is known so far, the outcome doesn't depend on who ends first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Optional

from nanolm.config import between
from nanolm.errors import ConfigError


@dataclass
class Rule:
    """The knobs of hydra/sweeper=halving; see its YAML."""

    rungs: list[float]
    eta: float
    confidence: Optional[float]
    extra: float

    def __post_init__(self) -> None:
        between("hydra.sweeper.eta", self.eta, 1, open_low=True)
        between("hydra.sweeper.extra", self.extra, 0)
        between("hydra.sweeper.confidence", self.confidence, 0, 0.9999)
        if sorted(set(self.rungs)) != self.rungs or not all(0 < share < 1 for share in self.rungs):
            raise ConfigError(f"hydra.sweeper.rungs={self.rungs}: must be rising shares between 0 and 1, as [0.1,0.3]")

    @property
    def shares(self) -> list[float]:
        """Of every rung; the last one is the end of the plan."""
        return [*self.rungs, 1.0]

    def places(self, configurations: int, rung: int) -> int:
        """How many of all configurations the plain rule trains to `rung`: two at the least, or nothing is compared."""
        return min(configurations, max(2, math.ceil(configurations / self.eta**rung)))

    def cost(self, configurations: int, rung: int) -> float:
        """The compute that the plain rule has spent once `rung` is through, in whole trainings."""
        before = [0.0, *self.shares]
        return sum(
            self.places(configurations, place) * (self.shares[place] - before[place]) for place in range(rung + 1)
        )


@dataclass
class Result:
    """A job's score at a rung, in bits per byte of val, and what it is the mean of; inf: it failed on the way."""

    value: float
    bits: Sequence[float] = ()  # of each document
    nbytes: Sequence[int] = ()
    done: Optional[float] = None  # of its steps, which is more than the rung's share in a short plan; None: that share


@dataclass
class Halving:
    """What is known of a sweep. `configurations`: the numbers of each one's jobs, its seeds, which go on together."""

    configurations: list[list[int]]
    rule: Rule
    results: dict[tuple[int, int], Result] = field(default_factory=dict)  # by (job, rung)

    def due(self) -> list[tuple[int, int]]:
        """(job, rung) of everything that can be trained now, the highest rung first."""
        found = []
        for rung in reversed(range(len(self.rule.shares))):
            for place in self.contenders(rung):
                found += [(job, rung) for job in self.configurations[place] if not self._known(job, rung)]
        return found

    def contenders(self, rung: int) -> list[int]:
        """The configurations that are trained to `rung`."""
        return list(range(len(self.configurations))) if rung == 0 else self.promoted(rung - 1)

    def promoted(self, rung: int) -> list[int]:
        """The configurations that certainly go on from `rung`: nothing that is still open can change it."""
        there = self.contenders(rung)
        ahead = [place for place in there if self._is_ahead(place, rung)]  # went on in an earlier launch
        if rung and self._is_open(rung - 1):
            return ahead
        scores = {place: self.score(place, rung) for place in there}
        ranked = sorted((score, place) for place, score in scores.items() if score is not None and score < math.inf)
        places = self.rule.places(len(self.configurations), rung + 1)
        unknown = sum(score is None for score in scores.values()) - sum(scores[place] is None for place in ahead)
        chosen = [place for _, place in ranked[: max(0, places - unknown)]]
        if not unknown:
            chosen += self._within_noise(rung, [place for _, place in ranked], places)
        return [place for place in there if place in chosen or place in ahead]

    def spent(self) -> float:
        """The share of all trainings that has been done, as far as results tell."""
        shares = [0.0] * sum(map(len, self.configurations))
        for (job, rung), result in self.results.items():
            shares[job] = max(shares[job], result.done or self.rule.shares[rung])
        return sum(shares) / len(shares)

    def score(self, place: int, rung: int) -> float | None:
        """The mean over the configuration's seeds at `rung`; None while one is open, inf where one failed."""
        found = [self.results.get((job, rung)) for job in self.configurations[place]]
        values = [result.value for result in found if result]
        return sum(values) / len(found) if len(values) == len(found) else None

    def _known(self, job: int, rung: int) -> bool:
        """Whether the job has been at `rung` or, in an earlier launch, beyond it."""
        return any((job, later) in self.results for later in range(rung, len(self.rule.shares)))

    def _is_ahead(self, place: int, rung: int) -> bool:
        return all(
            any(
                self.results.get((job, later), Result(math.inf)).value < math.inf
                for later in range(rung + 1, len(self.rule.shares))
            )
            for job in self.configurations[place]
        )

    def _is_open(self, rung: int) -> bool:
        """Whether a result of `rung`, or of one below it, is to come."""
        if rung and self._is_open(rung - 1):
            return True
        return not all(self._known(job, rung) for place in self.contenders(rung) for job in self.configurations[place])

    def _within_noise(self, rung: int, ranked: list[int], places: int) -> list[int]:
        """Those behind the last place that may be as good as it, the best first, as far as `extra` compute goes."""
        if self.rule.confidence is None or not 0 < places < len(ranked):
            return []
        shares = self.rule.shares
        left = self.rule.extra * self.rule.cost(len(self.configurations), rung + 1)
        for earlier in range(rung):
            more = len(self.contenders(earlier + 1)) - self.rule.places(len(self.configurations), earlier + 1)
            left -= max(0, more) * (shares[earlier + 1] - shares[earlier])
        affordable = int(max(0.0, left) / (shares[rung + 1] - shares[rung]) + 1e-9)
        cut, stay = ranked[places - 1], list[int]()
        for place in ranked[places:]:
            if len(stay) < affordable and self.overlap(place, cut, rung):
                stay.append(place)
        return stay

    def overlap(self, one: int, other: int, rung: int) -> bool:
        """Whether the interval of the difference of two configurations holds 0."""
        scores = self.score(one, rung), self.score(other, rung)
        if self.rule.confidence is None or scores[0] is None or scores[1] is None:
            return False
        width = NormalDist().inv_cdf(0.5 + self.rule.confidence / 2) * self.standard_error(one, other, rung)
        return abs(scores[0] - scores[1]) <= width

    def standard_error(self, one: int, other: int, rung: int) -> float:
        """Of the difference of two configurations: over val documents, paired, and over seeds if there are several."""
        import numpy as np

        results = [[self.results[job, rung] for job in self.configurations[place]] for place in (one, other)]
        documents = 0.0
        known = {tuple(result.nbytes) for pair in results for result in pair}
        if len(known) == 1 and (nbytes := np.array(known.pop(), float)).size:
            bits = [np.mean([result.bits for result in pair], axis=0) for pair in results]
            residuals = bits[0] - bits[1]
            residuals = residuals - residuals.sum() / nbytes.sum() * nbytes  # bits per byte is a ratio of sums
            documents = float((residuals**2).sum()) / float(nbytes.sum()) ** 2
        seeds = self._seed_variance(rung) * sum(1 / len(pair) for pair in results)
        return math.sqrt(documents + seeds)

    def _seed_variance(self, rung: int) -> float:
        """Of a score over seeds, pooled over the configurations that have several and none that failed; 0: unknown."""
        squares, freedom = 0.0, 0
        for place in self.contenders(rung):
            mean = self.score(place, rung)
            if mean is not None and mean < math.inf:
                values = [self.results[job, rung].value for job in self.configurations[place]]
                squares += sum((value - mean) ** 2 for value in values)
                freedom += len(values) - 1
        return squares / freedom if freedom else 0.0
