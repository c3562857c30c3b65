"""What is said of differences, held against made-up sweeps whose truth is known; and the parts that it is made of."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from nanolm.comparing.statistics import (
    Spread,
    bootstrap,
    margins,
    pooled_sd,
    power_law,
    sd_interval,
    seeds_by_documents,
    verdict,
)


@dataclass
class MadeUp:
    """A sweep: rows with true scores, seeds that move them, two sets of documents that move what is measured."""

    truth: np.ndarray  # (rows,)
    counts: list[int]  # seeds of each row
    sd: float  # over seeds
    documents: int  # 0: scores are measured without error

    def run(self, rng: np.random.Generator, by_test: bool = False) -> tuple[np.ndarray, np.ndarray, float, int]:
        """(difference to the chosen row less the true one, margin) of each row; the seeds' sd and its freedom."""
        if not self.documents:
            shifts = [rng.normal(true, self.sd, count) for true, count in zip(self.truth, self.counts, strict=True)]
            val = test = np.array([row.mean() for row in shifts])
            sd, freedom = pooled_sd([row.tolist() for row in shifts])
            spread, resampled = Spread(self.counts, sd if freedom else 0.0, freedom), None
            best, by_test = int(val.argmin()), True
        else:
            lengths = np.ceil(rng.lognormal(5, 0.7, (2, self.documents)))  # of val and test documents, in bytes
            hard = rng.normal(0, 0.3, (2, self.documents))
            bits = []
            for true, count in zip(self.truth, self.counts, strict=True):
                shift = rng.normal(true, self.sd, (count, 1, 1))
                bits.append(lengths * (shift + hard + rng.normal(0, 0.05, (count, 2, self.documents))))
            scores = [row.sum(-1) / lengths.sum(-1) for row in bits]  # of each (seeds, 2)
            val, test = np.array([row.mean(0) for row in scores]).T
            best = int((test if by_test else val).argmin())
            sd, freedom = pooled_sd([row[:, 1].tolist() for row in scores])
            tested = [row[:, 1] for row in bits]
            seed = int(rng.integers(2**31))
            resampled = bootstrap(np.array([row.mean(0) for row in tested]), lengths[1], best, 400, seed)
            spread = Spread(self.counts)
            if freedom:
                spread = Spread(self.counts, sd, freedom, seeds_by_documents(tested, lengths[1]))
        off = test - test[best] - (self.truth - self.truth[best])
        return off, margins(test, best, spread, resampled, by_test), sd, freedom


def made_up(rng: np.random.Generator) -> MadeUp:
    """Any sweep: 2 to 12 rows, alike or far apart, one seed each or several, with or without documents."""
    rows, several = int(rng.integers(2, 13)), bool(rng.random() < 0.5)
    counts = [int(rng.integers(2, 5))] * rows if several else [1] * rows
    apart = rng.choice([0.0, 0.02, 0.3])
    documents = int(rng.choice([0, 60, 200])) if several else int(rng.choice([60, 200]))
    return MadeUp(2 + apart * rng.random(rows), counts, 0.01 if several else 0.0, documents)


def test_of_1000_made_up_sweeps_what_is_said_holds_in_95_percent() -> None:
    rng = np.random.default_rng(1)
    held, false_alarms, spreads = [], [], []
    for _ in range(1000):
        sweep = made_up(rng)
        off, margin, sd, freedom = sweep.run(rng, by_test=bool(rng.random() < 0.3))
        held.append(bool((np.abs(off) <= margin + 1e-12).all()))
        if not np.ptp(sweep.truth):  # alike: every difference that is called one is a false alarm
            false_alarms.append(bool((np.abs(off) > margin + 1e-12).any()))
        if freedom and not sweep.documents:
            low, high = sd_interval(sd, freedom)
            spreads.append(low <= sweep.sd <= high)
    assert 0.93 <= np.mean(held) <= 0.97
    assert 0.03 <= np.mean(false_alarms) <= 0.07
    assert 0.90 <= np.mean(spreads) <= 0.99, len(spreads)  # some 170 of them


def test_differences_beyond_doubt_are_found() -> None:
    rng, sweep = np.random.default_rng(0), MadeUp(np.array([2.0, 2.01, 2.2]), [3, 3, 3], 0.01, 200)
    found = [sweep.run(rng) for _ in range(50)]
    assert all(margin[2] < 0.1 for _, margin, _, _ in found)


def test_the_bootstrap_is_seeded_and_of_a_ratio_of_sums() -> None:
    rng = np.random.default_rng(1)
    nbytes = rng.integers(1, 1000, 30)
    bits = rng.normal(2, 0.3, (3, 30)) * nbytes
    first, again = (bootstrap(bits, nbytes, 0, 300) for _ in range(2))
    assert (first.noise == again.noise).all()
    assert first.noise.std(0) == pytest.approx(np.sqrt(first.covariance.diagonal()), rel=0.15)
    assert first.estimated.mean() == pytest.approx(1, abs=0.1)
    exact = bootstrap(np.array([nbytes, 3 * nbytes]), nbytes, 0, 300)
    assert exact.noise == pytest.approx(0)


def test_tukeys_range() -> None:
    spread = Spread([4] * 3, 1.0, 9)  # studentised range of 3 means, 9 degrees of freedom: 3.948 (Tukey's tables)
    assert margins(np.zeros(3), 0, spread)[1:] == pytest.approx(3.948 * math.sqrt(1 / 4), rel=0.02)
    assert margins(np.array([0, 0.1]), 0, Spread([2, 2], 1.0, 2))[1] == pytest.approx(4.303, rel=0.04)  # Student's t
    assert (margins(np.zeros(3), 0, Spread([1] * 3)) == 0).all()


def test_very_many_rows_stay_within_the_memory() -> None:
    rng, rows, documents = np.random.default_rng(0), 600, 200
    bits = rng.normal(2, 0.1, (rows, documents)) * 100
    resampled = bootstrap(bits, np.full(documents, 100.0), 0)
    assert resampled.noise.nbytes < 2**27
    width = margins(bits.sum(1) / (100 * documents), 0, Spread([1] * rows), resampled)
    assert width[1:].min() > 0


def test_spreads_and_verdicts() -> None:
    assert pooled_sd([[1.0, 1.2], [2.0], [3.0, 3.2]]) == (pytest.approx(math.sqrt(0.02)), 2)
    assert pooled_sd([[1.0]])[1] == 0
    assert sd_interval(1.0, 10) == (pytest.approx(0.699, rel=0.02), pytest.approx(1.755, rel=0.02))
    assert verdict(0.01, 0.02, True) == verdict(-0.01, 0.02, False) == "within the noise"
    assert verdict(0.05, 0.02, True) == "worse"
    assert verdict(0.05, 0.02, False) == "worse (one seed)"
    assert verdict(-0.05, 0.02, True) == "better on test"
    assert verdict(0.05, math.nan, True) == verdict(math.nan, 0.1, True) == verdict(0.1, 0.0, True) == "unknown"


def test_the_power_law_is_found_above_the_floor() -> None:
    x = [1e5, 1e6, 1e7, 1e8]
    assert power_law(x, [1.5 + 8 * v**-0.2 for v in x], floor=1.5) == pytest.approx((8, -0.2))
    assert power_law(x[:3], [3, 2, 1]) is None
    assert power_law([1, 1, 2, 3], [4, 3, 2, 1]) is None
