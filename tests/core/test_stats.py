"""Each statistic against a known value, and the rules made of them against simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from harness.core.stats import (
    Booleans,
    corrected_resampled_t,
    holm,
    holm_confidences,
    mcnemar_exact,
    paired_bootstrap,
    probability_of_outperforming,
    wilson_interval,
)


def flags(text: str) -> Booleans:
    return np.array([letter == "1" for letter in text])


def test_wilson() -> None:
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_corrected_t_gives_the_value_of_scikit_learns_example() -> None:
    # scikit-learn's user guide, "Statistical comparison of models using grid search": the two best models,
    # corrected t 0.750 and one-sided p 0.227 (the uncorrected ones are 2.61 and 0.005 there).
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    models = (SVC(random_state=0, kernel="rbf"), SVC(random_state=0, kernel="linear"))
    rbf, linear = (cross_val_score(model, x, y, scoring="roc_auc", cv=folds) for model in models)
    found = corrected_resampled_t(list(rbf - linear), train=90, test=10)
    assert found.p / 2 == pytest.approx(0.227, abs=5e-4)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_corrected_t_with_no_overlap_is_the_plain_one(values: list[float]) -> None:
    found = corrected_resampled_t(values, train=1, test=0)
    if np.var(values) > 1e-12:
        plain = ttest_1samp(values, 0)
        assert found.p == pytest.approx(float(plain.pvalue))
        interval = plain.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((float(interval.low), float(interval.high)))
        assert found.excludes_zero == (found.p < 0.05) or found.p == pytest.approx(0.05)
    assert corrected_resampled_t(values, train=640, test=200).p >= found.p


def test_corrected_t_at_its_edges() -> None:
    assert corrected_resampled_t([0.0, 0.0, 0.0], train=3, test=1).p == 1
    same = corrected_resampled_t([0.5, 0.5], train=3, test=1)
    assert (same.p, same.low, same.high, same.excludes_zero) == (0, 0.5, 0.5, True)
    # One track of twenty, twice: the spread of rounding alone is 0.05 / sqrt(12), and t with one degree is wide.
    rounded = corrected_resampled_t([0.05, 0.05], train=80, test=20, resolution=0.05)
    error = 0.05 / np.sqrt(12) * np.sqrt(1 / 2 + 20 / 80)
    assert rounded.high - rounded.value == pytest.approx(12.7062 * error)
    assert not rounded.excludes_zero
    with pytest.raises(ValueError, match="needs two"):
        corrected_resampled_t([0.1], train=3, test=1)


def test_mcnemar() -> None:
    # The sign test's tables: 5 of 20 is 0.0414 two-sided, 1 of 8 is 0.0703.
    a, b = flags("1" * 15 + "0" * 5 + "1" * 30), flags("0" * 15 + "1" * 5 + "1" * 30)
    assert mcnemar_exact(a, b) == pytest.approx(0.0414, abs=5e-5)
    assert mcnemar_exact(b, a) == mcnemar_exact(a, b)
    assert mcnemar_exact(flags("10000000"), flags("01111111")) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_exact(a, a) == 1


def test_paired_bootstrap_of_one_seed_agrees_with_the_normal_interval() -> None:
    chance = np.random.default_rng(3)
    a, b = chance.random((1, 1000)) < 0.7, chance.random((1, 1000)) < 0.6
    difference = a.astype(float) - b.astype(float)
    half = 1.96 * float(difference.std(ddof=1)) / math.sqrt(1000)
    found = paired_bootstrap(a, b)
    assert found.value == pytest.approx(float(difference.mean()))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.002)
    assert found.p < 0.01
    assert paired_bootstrap(a, b) == found  # the seed makes it
    mirrored = paired_bootstrap(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_paired_bootstrap_counts_seeds_as_well_as_tracks() -> None:
    # A wins by 20 points with half of the seeds and loses by as much with the others: seeds, not tracks, decide.
    a, b = np.zeros((4, 500), dtype=bool), np.zeros((4, 500), dtype=bool)
    a[:2, :100], b[2:, :100] = True, True
    found = paired_bootstrap(a, b)
    assert found.value == 0
    assert not found.excludes_zero
    assert found.high > 0.15


def test_probability_of_outperforming() -> None:
    assert probability_of_outperforming([0.9] * 4, [0.8] * 4) == (1, 1, 1)
    value, low, high = probability_of_outperforming([1, 2, 3, 4, 5], [0, 3, 3, 3, 3])
    assert value == pytest.approx((1 + 0 + 0.5 + 1 + 1) / 5)
    assert low < value < high


def test_holm() -> None:
    # As p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") of R.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holms_intervals_say_what_holms_p_values_say(p_values: list[float]) -> None:
    for p, adjusted, level in zip(p_values, holm(p_values), holm_confidences(p_values), strict=True):
        if abs(adjusted - 0.05) > 1e-9:
            assert (p <= 1 - level) == (adjusted <= 0.05)


def compare(chance: np.random.Generator, advantage: float) -> bool:
    """Simulate ten redrawn splits of 1000 tracks of mixed difficulty; return True if a difference is found."""
    difficulty = chance.beta(2, 1, 1000)
    differences = []
    for _ in range(10):
        test = chance.choice(1000, 200, replace=False)
        shared = chance.normal(0, 0.02)  # a lucky or unlucky split for both
        chances = [
            np.clip(difficulty[test] + shared + gain + chance.normal(0, 0.02), 0, 1) for gain in (0, advantage)
        ]
        a, b = (chance.random(200) < each for each in chances)
        differences.append(float(b.mean() - a.mean()))
    return corrected_resampled_t(differences, train=640, test=200).excludes_zero


def test_the_rule_for_redrawn_splits() -> None:
    chance = np.random.default_rng(11)
    assert sum(compare(chance, 0.0) for _ in range(200)) <= 16
    assert sum(compare(chance, 0.12) for _ in range(200)) >= 160  # clipping takes the gain to about 10 points


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (7, 10), (150, 199), (10, 10)])
def test_wilson_interval(successes: int, trials: int) -> None:
    """The interval equals the closed form of the score interval (Wilson 1927)."""
    z, p = float(norm.ppf(0.975)), successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (p * (1 - p) / trials + z * z / (4 * trials**2)) ** 0.5
    low, high = wilson_interval(successes, trials)
    assert low == pytest.approx(centre - half, abs=1e-12)
    assert high == pytest.approx(centre + half, abs=1e-12)
