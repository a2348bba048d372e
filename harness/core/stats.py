"""Intervals and tests for the comparison of classifiers; numpy and scipy do the arithmetic.

Accuracies and differences are fractions in [0, 1] and [-1, 1]; `confidence` is the coverage of an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from harness.core.search_stats import CONFIDENCE, Floats, wilson_interval

Booleans = NDArray[np.bool_]
FEW_TRACKS = 10  # that differ: below, a variance that is estimated from them can be far too small


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, and the two-sided p-value of the hypothesis that it is zero.

    `exact` is True if p is that of the exact sign test, which is asked where few tracks differ.
    """

    value: float
    low: float
    high: float
    p: float
    exact: bool = False

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def corrected_resampled_t(
    values: Sequence[float],
    redrawn: float,
    *,
    sizes: Sequence[float] | None = None,
    resolution: float = 0.0,
) -> Estimate:
    """Return the mean of a figure over redrawn splits with its corrected resampled t interval.

    `values` has one value per split. Redrawn splits share tracks, so the k values are not independent: the
    variance of their mean is the sample variance times (1/k + redrawn) instead of 1/k. `redrawn` is test / (pool
    - test): the mean size of a test part over that of the rest of the pool that the test parts are drawn from.
    `sizes` are those of the test parts: each value weighs as much as its part has tracks. Without them all weigh
    the same. `resolution` is the step between possible values. The sample variance is at least that of rounding to
    this step, so that a few equal values prove nothing.

    Raises ValueError for fewer than two values.
    Source: Nadeau and Bengio (2003), Inference for the generalization error, Machine Learning 52.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        raise ValueError(f"{len(sample)} value(s); the variance needs two")
    weights = np.ones(len(sample)) if sizes is None else np.asarray(sizes, dtype=float)
    weights = weights / weights.sum()
    mean = float(weights @ sample)
    of_mean = len(sample) / (len(sample) - 1) * float((weights * (sample - mean)) @ (weights * (sample - mean)))
    of_mean = max(of_mean, resolution**2 / 12 / len(sample))  # of a uniform distribution one step wide
    return _t_estimate(mean, of_mean * (1 + len(sample) * redrawn), len(sample) - 1, CONFIDENCE)


def tracks_by_fits(
    differences: Sequence[NDArray[Any]],
    clusters: Sequence[NDArray[Any]],
    redrawn: float,
    *,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return a mean over tracks and fits with its interval; the tracks and the fits are both taken as a sample.

    `differences` has for each fit (repeat) one value a test track, for example the correctness of one classifier
    minus that of another: numbers [tracks of the fit]. `clusters` has in the same order the number of each
    track's cluster: int [tracks of the fit]; identical tracks, and those of a group, have one number. `redrawn` is
    test / (pool - test) if the test parts were drawn from a pool (see `corrected_resampled_t`), and 0 if all fits
    have the same train and test part.

    The variance has two parts. What stays with a track from fit to fit is read directly from the sums over the
    fits of each track: it holds the part that the fits share because they are tested on the same tracks. What a
    fit has beyond its tracks is read from the sums over the tracks of each fit, less what single answers add by
    chance. Only this part is multiplied by (1 + fits * redrawn), because the train parts of redrawn splits share
    tracks. The degrees of freedom are Satterthwaite's. With one fit the interval holds for this one alone.

    Where fewer than FEW_TRACKS clusters have any value but zero, the variance that is told from them can be far
    too small: the exact sign test has to agree. The result has the larger p-value of the two, and an interval that
    holds both. The sign test alone would not do: it takes the answers of one bad fit for as many observations. It
    decides alone where there is one fit, or no variance.

    Source: Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering, and Owen (2007), The
    pigeonhole bootstrap, for two crossed factors; Nadeau and Bengio (2003) for the factor; Satterthwaite (1946)
    for the degrees of freedom. The combination is this project's own; docs/comparison.md says how often it errs.
    """
    size = 1 + max(int(numbers.max()) for numbers in clusters)
    sums, asked = np.zeros((len(clusters), size)), np.zeros((len(clusters), size), dtype=np.int64)
    differing = np.zeros(size, dtype=bool)
    for fit, (values, numbers) in enumerate(zip(differences, clusters, strict=True)):
        sums[fit] = np.bincount(numbers, weights=values, minlength=size)
        asked[fit] = np.bincount(numbers, minlength=size)
        differing[numbers[np.asarray(values) != 0]] = True
    seen = asked.any(axis=0)
    sums, asked = sums[:, seen], asked[:, seen]
    (fits, tracks), answers = asked.shape, int(asked.sum())
    few = int(differing.sum()) < FEW_TRACKS
    if tracks == 1 or (few and fits == 1):
        return _sign_test(sums.sum(axis=0) / answers, confidence)
    mean = float(sums.sum() / answers)
    cells = (sums - mean * asked) / answers  # what each track adds to the mean's error in each fit
    of_tracks = tracks / (tracks - 1) * float((cells.sum(axis=0) ** 2).sum())
    of_fits = 0.0
    if fits > 1:
        within_fits = fits / (fits - 1) * float((cells.sum(axis=1) ** 2).sum())
        of_fits = max(0.0, within_fits - float((cells**2).sum())) * (1 + fits * redrawn)
    variance = of_tracks + of_fits
    if variance < 1e-24:  # rounding alone leaves less
        return _sign_test(sums.sum(axis=0) / answers, confidence)
    degrees = variance**2 / (of_tracks**2 / (tracks - 1) + of_fits**2 / max(1, fits - 1))
    estimate = _t_estimate(mean, variance, degrees, confidence)
    return _wider(estimate, _sign_test(sums.sum(axis=0) / answers, confidence)) if few else estimate


def _wider(one: Estimate, other: Estimate) -> Estimate:
    """Return the estimate with the larger p-value, with an interval that holds those of both."""
    doubtful = max(one, other, key=lambda estimate: estimate.p)
    return replace(doubtful, low=min(one.low, other.low), high=max(one.high, other.high))


def _sign_test(shares: Floats, confidence: float) -> Estimate:
    """Return the sum of the tracks' shares in a mean difference, judged by how many favour each side.

    `shares` is float [tracks]. p is the exact sign test's. The interval is that of Clopper and Pearson for the
    share of tracks that favour the first, times the size of what differs; the outer ends allow for more tracks
    that differ than there were. It excludes zero exactly if p is at most 1 - `confidence`.
    """
    mean, size = float(shares.sum()), float(np.abs(shares).sum())
    favour, against = int((shares > 0).sum()), int((shares < 0).sum())
    differing, tracks = favour + against, len(shares)
    most = float(binomtest(differing, tracks).proportion_ci(confidence, method="exact").high)
    if differing == 0:
        return Estimate(0.0, -most, most, 1.0, exact=True)
    outer = size * most * tracks / differing
    test = binomtest(favour, differing)
    ends = test.proportion_ci(confidence, method="exact")
    low, high = (2 * float(end) - 1 for end in (ends.low, ends.high))
    low, high = low * (size if low > 0 else outer), high * (size if high < 0 else outer)
    agree = mean * (favour - against) > 0  # the tracks that differ in most fits may outweigh those that are more
    return Estimate(mean, min(low, mean), max(high, mean), float(test.pvalue) if agree else 1.0, exact=True)


def _t_estimate(mean: float, variance: float, degrees: float, confidence: float) -> Estimate:
    error = math.sqrt(variance)
    half = float(t.ppf((1 + confidence) / 2, degrees)) * error
    statistic = abs(mean) / error if error > 0 else 0.0 if mean == 0 else math.inf
    return Estimate(mean, mean - half, mean + half, float(2 * t.sf(statistic, degrees)))


def mcnemar_exact(correct_a: Booleans, correct_b: Booleans, clusters: NDArray[Any]) -> float:
    """Return the exact two-sided p-value of the hypothesis that two classifiers err equally often.

    `correct_a` and `correct_b` are bool [tracks], True for a correct prediction. Only tracks that exactly one
    classifier got right count. `clusters` is int [tracks]: tracks with the same number (see `tracks_by_fits`)
    count as one, for the classifier that got more of them right.
    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions; the
    binomial form.
    """
    ahead = np.bincount(clusters, weights=correct_a.astype(float) - correct_b)
    only_a, only_b = int((ahead > 0).sum()), int((ahead < 0).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def accuracy_interval(correct: Booleans, clusters: NDArray[Any]) -> tuple[float, float]:
    """Return the Wilson interval of a classifier's accuracy, both ends in [0, 1].

    `correct` is bool [tracks]. `clusters` is int [tracks]: tracks with the same number (see `tracks_by_fits`) are
    not independent. The number of tracks is divided by the design effect then: the variance over the clusters
    divided by that of independent tracks, at least 1. If all predictions are correct, or all wrong, it cannot be
    measured, and a cluster counts as one track. The quantile is Student's for the number of clusters less one,
    because the effect is told from so many. Of one cluster nothing is known.
    Source: Rao and Scott (1992), A simple method for the analysis of clustered binary data.
    """
    tracks, mean = len(correct), float(correct.mean())
    numbers = np.unique(clusters, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count == tracks:
        return wilson_interval(int(correct.sum()), tracks)
    if count == 1:
        return 0.0, 1.0
    effect = tracks / count
    if 0 < mean < 1:
        sums = np.bincount(numbers, weights=correct - mean)
        of_clusters = count / (count - 1) * float((sums**2).sum()) / tracks**2
        effect = max(1.0, of_clusters * tracks / (mean * (1 - mean)))
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return wilson_interval(int(correct.sum()) / effect, tracks / effect, quantile=quantile)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple tests, in the order given.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_confidences(p_values: Sequence[float]) -> list[float]:
    """Return for each p-value the confidence at which its interval excludes zero exactly if Holm rejects.

    The smallest p-value is compared with alpha / m, the next with alpha / (m - 1), and so on. From the first that
    is not rejected on, all get the level of that one.
    """
    alpha, found = 1 - CONFIDENCE, [CONFIDENCE] * len(p_values)
    level, stopped = alpha, False
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if not stopped:
            level = alpha / (len(p_values) - rank)
            stopped = p_values[index] > level
        found[index] = 1 - level
    return found
