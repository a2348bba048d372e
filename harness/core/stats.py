"""Intervals and tests for the comparison of classifiers; numpy and scipy do the arithmetic.

Accuracies and differences are fractions in [0, 1] and [-1, 1]; `confidence` is the coverage of an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, and the two-sided p-value of the hypothesis that it is zero."""

    value: float
    low: float
    high: float
    p: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, both ends in [0, 1].

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def corrected_resampled_t(
    differences: Sequence[float], train: int, test: int, *, confidence: float = 0.95, resolution: float = 0.0
) -> Estimate:
    """Return the mean difference over redrawn splits with its corrected resampled t interval.

    `differences` has one value per split, `train` and `test` are the sizes of the parts. Redrawn splits share
    tracks, so the k differences are not independent: the variance of their mean is the sample variance times
    (1/k + test/train) instead of 1/k. `resolution` is the step between possible values of a difference. The
    sample variance is at least that of rounding to this step, so that a few equal differences prove nothing.

    Raises ValueError for fewer than two differences.
    Source: Nadeau and Bengio (2003), Inference for the generalization error, Machine Learning 52.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        raise ValueError(f"{len(values)} difference(s); the variance needs two")
    mean = float(values.mean())
    variance = max(float(values.var(ddof=1)), resolution**2 / 12)  # of a uniform distribution one step wide
    error = math.sqrt(variance * (1 / len(values) + test / train))
    degrees = len(values) - 1
    half = float(t.ppf((1 + confidence) / 2, degrees)) * error
    statistic = abs(mean) / error if error > 0 else 0.0 if mean == 0 else math.inf
    return Estimate(mean, mean - half, mean + half, float(2 * t.sf(statistic, degrees)))


def mcnemar_exact(correct_a: Booleans, correct_b: Booleans) -> float:
    """Return the exact two-sided p-value of the hypothesis that two classifiers err equally often.

    Both arguments are bool [tracks], True for a correct prediction. Only tracks that exactly one classifier got
    right count.
    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions; the
    binomial form.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def paired_bootstrap(
    correct_a: Booleans, correct_b: Booleans, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Return the difference of two accuracies on one test part, with a bootstrap interval over tracks and seeds.

    Both arguments are bool [seeds, tracks]; row i of both was trained with the same seed. Tracks and seeds are
    drawn with replacement, independently of one another. Both classifiers get the same draw, so that the
    difficulty of a track cancels. One seed fewer than there are is drawn, because drawing all of a few seeds gives
    too small a variance. The interval is the percentile interval. The p-value counts the resamples on the other
    side of zero: it is at most 1 - `confidence` exactly if the interval excludes zero.
    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, chapters 8, 13 and 16; Owen (2007),
    The pigeonhole bootstrap, for two crossed factors; McCarthy and Snowden (1985), The bootstrap and finite
    population sampling, for the number drawn.
    """
    difference = correct_a.astype(float) - correct_b.astype(float)
    seeds, tracks = difference.shape
    chance = np.random.default_rng(seed)
    # How often each seed and each track is drawn. The products weight the table, which equals drawing its rows.
    drawn = max(1, seeds - 1)
    of_seeds = chance.multinomial(drawn, np.full(seeds, 1 / seeds), size=resamples)
    of_tracks = chance.multinomial(tracks, np.full(tracks, 1 / tracks), size=resamples)
    means = np.einsum("rs,st,rt->r", of_seeds, difference, of_tracks, optimize=True) / (drawn * tracks)
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    rank = max(1, math.floor((1 - confidence) / 2 * (resamples + 1) + 1e-9))
    ordered = np.sort(means)
    return Estimate(float(difference.mean()), float(ordered[rank - 1]), float(ordered[-rank]), p)


def probability_of_outperforming(
    scores_a: Sequence[float], scores_b: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return the probability that A scores higher than B in a repeat, and the ends of its bootstrap interval.

    Scores are paired (same split, same seed). A tie counts half. The authors call a difference meaningful if the
    probability is above 0.75 and the lower end of its interval above 0.5.
    Source: Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, MLSys.
    """
    a, b = np.asarray(scores_a, dtype=float), np.asarray(scores_b, dtype=float)
    wins = (a > b) + 0.5 * (a == b)
    drawn = np.random.default_rng(seed).integers(len(wins), size=(10_000, len(wins)))
    low, high = np.quantile(wins[drawn].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(wins.mean()), float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple tests, in the order given.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_confidences(p_values: Sequence[float], confidence: float = 0.95) -> list[float]:
    """Return for each p-value the confidence at which its interval excludes zero exactly if Holm rejects.

    The smallest p-value is compared with alpha / m, the next with alpha / (m - 1), and so on. From the first that
    is not rejected on, all get the level of that one.
    """
    alpha, found = 1 - confidence, [confidence] * len(p_values)
    level, stopped = alpha, False
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if not stopped:
            level = alpha / (len(p_values) - rank)
            stopped = p_values[index] > level
        found[index] = 1 - level
    return found
