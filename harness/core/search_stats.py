"""Statistics of a search, which every sweep prints or draws, without scipy, which takes a second to import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95  # of an interval, where a function is not told another
CURVE_POINTS = 200  # numbers of trials for which an expected best is computed


@dataclass(frozen=True, slots=True)
class ExpectedBest:
    """The best value that `trials` trials are expected to reach, with its standard deviation, for each number."""

    trials: Floats
    mean: Floats
    std: Floats


def expected_best(values: Sequence[float]) -> ExpectedBest:
    """Return the expected best of n of these values, drawn without replacement, for n from 1 to all of them.

    It is what a search would have reached after n trials if its trials had come in another order: the fair way to
    hold searches of different length against each other. A sampler that learns makes later trials better than
    earlier ones, which this leaves out. At most CURVE_POINTS numbers are taken.
    Source: Dodge et al. (2019), Show your work; without replacement, so that it is unbiased, as in Tang et al.
    (2020), Showing your work doesn't always work.
    """
    ranked, total = np.sort(np.asarray(values, dtype=float)), len(values)
    numbers = np.unique(np.linspace(1, total, min(total, CURVE_POINTS)).round().astype(np.int64))
    places = np.arange(1, total + 1)
    logs_of = np.array([math.lgamma(k) for k in range(1, total + 2)])  # at index k - 1: log (k - 1)!
    means, deviations = [], []
    for n in numbers:
        # The value at place i is the best of n where the other n - 1 lie below it.
        weights = np.zeros(total)
        above = places >= n
        i = places[above]
        logs = logs_of[i - 1] - logs_of[n - 1] - logs_of[i - n]
        logs -= logs_of[total] - logs_of[n] - logs_of[total - n]
        weights[above] = np.exp(logs)
        mean = float(weights @ ranked)
        means.append(mean)
        deviations.append(math.sqrt(max(0.0, float(weights @ (ranked - mean) ** 2))))
    return ExpectedBest(numbers.astype(np.float64), np.array(means), np.array(deviations))


def wilson_interval(
    successes: float, trials: float, confidence: float = CONFIDENCE, *, quantile: float | None = None
) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, both ends in [0, 1].

    `quantile` takes the place of the normal distribution's, where the number of trials is an estimate itself.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z, share = quantile or NormalDist().inv_cdf((1 + confidence) / 2), successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = ((centre + side) / (1 + z**2 / trials) for side in (-half, half))
    # At the ends rounding would leave a trace.
    return 0.0 if successes == 0 else low, 1.0 if successes == trials else high
