"""Each statistic against a known value, and what must hold for any values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from harness.core.search_stats import Floats, expected_best, wilson_interval
from harness.core.stats import (
    Booleans,
    Estimate,
    accuracy_interval,
    corrected_resampled_t,
    holm,
    holm_confidences,
    mcnemar_exact,
    tracks_by_fits,
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
    found = corrected_resampled_t(list(rbf - linear), 10 / 90)
    assert found.p / 2 == pytest.approx(0.227, abs=5e-4)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_corrected_t_with_no_overlap_is_the_plain_one(values: list[float]) -> None:
    found = corrected_resampled_t(values, 0)
    if np.var(values) > 1e-12:
        plain = ttest_1samp(values, 0)
        assert found.p == pytest.approx(float(plain.pvalue))
        interval = plain.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((float(interval.low), float(interval.high)))
        assert found.excludes_zero == (found.p < 0.05) or found.p == pytest.approx(0.05)
    assert corrected_resampled_t(values, 200 / 640).p >= found.p


def test_corrected_t_at_its_edges() -> None:
    assert corrected_resampled_t([0.0, 0.0, 0.0], 1 / 3).p == 1
    same = corrected_resampled_t([0.5, 0.5], 1 / 3)
    assert (same.p, same.low, same.high, same.excludes_zero) == (0, 0.5, 0.5, True)
    # One track of twenty, twice: the spread of rounding alone is 0.05 / sqrt(12), and t with one degree is wide.
    rounded = corrected_resampled_t([0.05, 0.05], 20 / 80, resolution=0.05)
    error = 0.05 / np.sqrt(12) * np.sqrt(1 / 2 + 20 / 80)
    assert rounded.high - rounded.value == pytest.approx(12.7062 * error)
    assert not rounded.excludes_zero
    with pytest.raises(ValueError, match="needs two"):
        corrected_resampled_t([0.1], 1 / 3)


def test_the_corrected_t_weighs_by_the_sizes_of_the_parts() -> None:
    assert corrected_resampled_t([1.0, 0.5], 0.25, sizes=[10, 30]).value == 0.625
    equal, none = (corrected_resampled_t([0.7, 0.5, 0.9], 0.25, sizes=sizes) for sizes in ([7, 7, 7], None))
    assert (equal.low, equal.high, equal.p) == pytest.approx((none.low, none.high, none.p))


def test_mcnemar() -> None:
    # The sign test's tables: 5 of 20 is 0.0414 two-sided, 1 of 8 is 0.0703.
    a, b = flags("1" * 15 + "0" * 5 + "1" * 30), flags("0" * 15 + "1" * 5 + "1" * 30)
    apart = np.arange(50)
    assert mcnemar_exact(a, b, apart) == pytest.approx(0.0414, abs=5e-5)
    assert mcnemar_exact(b, a, apart) == mcnemar_exact(a, b, apart)
    assert mcnemar_exact(flags("10000000"), flags("01111111"), np.arange(8)) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_exact(a, a, apart) == 1
    # Each track twice: as much is known as with each there once.
    assert mcnemar_exact(a.repeat(2), b.repeat(2), apart.repeat(2)) == mcnemar_exact(a, b, apart)


def test_the_interval_of_an_accuracy_knows_tracks_that_belong_together() -> None:
    chance = np.random.default_rng(6)
    correct = chance.random(60) < 0.7
    alone = accuracy_interval(correct, np.arange(60))
    assert alone == wilson_interval(int(correct.sum()), 60)
    assert accuracy_interval(correct.repeat(4), np.arange(60).repeat(4)) == pytest.approx(alone, abs=6e-3)
    # Groups within which the answers do not depend on one another cost little.
    low, high = accuracy_interval(chance.random(600) < 0.7, chance.permutation(600) // 10)
    assert 0.06 < high - low < 0.11
    # Nothing can be told from answers that are all correct: a group counts as one track.
    assert accuracy_interval(np.ones(40, dtype=bool), np.arange(40) // 10) == wilson_interval(
        4, 4, quantile=float(t.ppf(0.975, 3))
    )
    assert accuracy_interval(flags("1110"), np.zeros(4, dtype=int)) == (0, 1)


@pytest.mark.parametrize("groups", [4, 8, 30])
def test_the_interval_of_an_accuracy_on_groups_covers_as_often_as_it_says(groups: int) -> None:
    """Groups of 20 tracks, each with an accuracy of its own about 0.7."""
    chance = np.random.default_rng(groups)
    units, covered = np.arange(20 * groups) // 20, 0
    for _ in range(400):
        correct = chance.random(20 * groups) < chance.beta(7, 3, groups)[units]
        low, high = accuracy_interval(correct, units)
        covered += low <= 0.7 <= high
    assert covered / 400 >= 0.92


def test_one_fit_over_tracks_is_the_t_interval_of_the_tracks_differences() -> None:
    chance = np.random.default_rng(3)
    differences = (chance.random(1000) < 0.7).astype(float) - (chance.random(1000) < 0.6)
    found = tracks_by_fits([differences], [np.arange(1000)], 0.0)
    plain = ttest_1samp(differences, 0)
    interval = plain.confidence_interval(0.95)
    assert (found.value, found.p) == pytest.approx((float(differences.mean()), float(plain.pvalue)))
    assert (found.low, found.high) == pytest.approx((float(interval.low), float(interval.high)))
    assert not found.exact


def test_the_parts_of_the_variance_by_hand() -> None:
    """Four fits of twelve tracks each, with the sums written out."""
    chance = np.random.default_rng(4)
    table = chance.integers(-1, 2, size=(4, 12)).astype(float)
    e = (table - table.mean()) / table.size
    of_tracks = 12 / 11 * sum(e[:, i].sum() ** 2 for i in range(12))
    of_fits = 4 / 3 * sum(e[j].sum() ** 2 for j in range(4)) - sum(value**2 for value in e.ravel())
    assert of_fits > 0
    for redrawn in (0.0, 0.25):
        fits = of_fits * (1 + 4 * redrawn)
        degrees = (of_tracks + fits) ** 2 / (of_tracks**2 / 11 + fits**2 / 3)
        half = float(t.ppf(0.975, degrees)) * math.sqrt(of_tracks + fits)
        found = tracks_by_fits(list(table), [np.arange(12)] * 4, redrawn)
        assert found.value == pytest.approx(table.mean())
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
        assert found.excludes_zero == (found.p < 0.05)


def test_fits_count_as_well_as_tracks() -> None:
    """A wins by 20 points with half of the seeds and loses by as much with the others: the seeds decide."""
    gain = np.zeros(500)
    gain[:100] = 1
    found = tracks_by_fits([gain, gain, -gain, -gain], [np.arange(500)] * 4, 0.0)
    assert found.value == 0
    assert not found.excludes_zero
    assert found.high > 0.15


def test_identical_tracks_are_one() -> None:
    """Each track there twice: as much is known as with each there once."""
    chance = np.random.default_rng(5)
    once = [chance.integers(-1, 2, size=60).astype(float) for _ in range(3)]
    twice = [np.repeat(values, 2) for values in once]
    alone = tracks_by_fits(once, [np.arange(60)] * 3, 0.0)
    assert tracks_by_fits(twice, [np.repeat(np.arange(60), 2)] * 3, 0.0) == alone
    taken_apart = tracks_by_fits(twice, [np.arange(120)] * 3, 0.0)
    assert taken_apart.high - taken_apart.low < 0.8 * (alone.high - alone.low)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25]))
def test_neither_order_nor_names_of_tracks_matter_and_a_swap_turns_it_round(seed: int, redrawn: float) -> None:
    chance = np.random.default_rng(seed)
    clusters = [chance.choice(40, 12, replace=False) for _ in range(3)]
    differences = [chance.integers(-1, 2, size=12).astype(float) for _ in range(3)]
    found = tracks_by_fits(differences, clusters, redrawn)
    order, names = chance.permutation(12), chance.permutation(40)
    moved = tracks_by_fits([d[order] for d in differences], [names[c][order] for c in clusters], redrawn)
    swapped = tracks_by_fits([-d for d in differences], clusters, redrawn)
    assert (moved.value, moved.low, moved.high, moved.p) == pytest.approx(
        (found.value, found.low, found.high, found.p)
    )
    assert (swapped.value, swapped.low, swapped.high, swapped.p) == pytest.approx(
        (-found.value, -found.high, -found.low, found.p)
    )
    assert found.low <= found.value <= found.high


def one_fit(favour: int, against: int, tracks: int = 200) -> Estimate:
    values = np.array([1.0] * favour + [-1.0] * against + [0.0] * (tracks - favour - against))
    return tracks_by_fits([values], [np.arange(tracks)], 0.0)


def test_where_few_tracks_differ_the_sign_test_decides() -> None:
    # The sign test's tables: 8 of 9 is 0.0391 two-sided, 1 of 8 is 0.0703.
    assert one_fit(8, 1).p == pytest.approx(0.0391, abs=5e-5)
    assert one_fit(1, 7).p == pytest.approx(0.0703, abs=5e-5)
    assert (one_fit(8, 1).exact, one_fit(9, 1).exact) == (True, False)
    # Five tracks, all for one side, are 0.0625: too few for any difference at 95 %.
    assert not one_fit(5, 0).excludes_zero
    assert one_fit(6, 0).excludes_zero
    # However often they are asked, they stay five tracks.
    values = np.array([1.0] * 5 + [0.0] * 195)
    assert not tracks_by_fits([values] * 10, [np.arange(200)] * 10, 0.0).excludes_zero
    eight = (np.arange(200) < 8).astype(float)
    assert tracks_by_fits([eight] * 10, [np.arange(200)] * 10, 0.0).excludes_zero


def test_few_tracks_of_one_bad_fit_show_nothing() -> None:
    """Seven tracks, all in one of ten repeats: one network that was trained badly is one observation."""
    differences = [np.zeros(20) for _ in range(10)]
    differences[3][:7] = 1
    clusters = [np.arange(20) + 20 * (number % 5) for number in range(10)]
    found = tracks_by_fits(differences, clusters, 0.25)
    assert (found.exact, found.excludes_zero) == (False, False)
    assert found.p > 0.1


def test_equal_learners_that_sometimes_fail_are_told_apart_in_few_tries() -> None:
    """Nearly perfect ones on 100 tracks, two rounds of five folds: the sign test alone errs in 15 % here."""
    chance = np.random.default_rng(7)

    def answers() -> Floats:
        return (chance.random(20) > (0.35 if chance.random() < 0.05 else 0.002)).astype(float)

    shown = 0
    for _ in range(400):
        clusters = [fold for _ in range(2) for fold in np.split(chance.permutation(100), 5)]
        shown += tracks_by_fits([answers() - answers() for _ in clusters], clusters, 0.25).excludes_zero
    assert shown / 400 <= 0.08


def test_equal_answers_still_leave_room_for_a_difference() -> None:
    same = one_fit(0, 0)
    assert (same.value, same.p) == (0, 1)
    assert same.high == -same.low == pytest.approx(1 - 0.025 ** (1 / 200))  # none of 200: Clopper and Pearson
    everywhere = one_fit(20, 0, tracks=20)  # a variance of zero proves no more than twenty tracks do
    assert everywhere.exact
    assert 0.5 < everywhere.low < everywhere.value == pytest.approx(1)
    assert everywhere.p == pytest.approx(2 * 0.5**20)


@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=9), st.integers(0, 50), st.sampled_from([0.95, 0.99, 0.9])
)
def test_the_sign_tests_interval_says_what_its_p_says(nets: list[int], same: int, confidence: float) -> None:
    table = np.zeros((3, len(nets) + same))
    for track, net in enumerate(nets):
        table[: abs(net), track] = np.sign(net)
    found = tracks_by_fits(list(table), [np.arange(table.shape[1])] * 3, 0.0, confidence=confidence)
    assert found.low <= found.value <= found.high
    assert found.excludes_zero == (found.p <= 1 - confidence)


def test_of_one_track_nothing_follows() -> None:
    found = tracks_by_fits([np.ones(2), np.ones(2)], [np.zeros(2, dtype=int)] * 2, 0.0)
    assert (found.value, found.p, found.exact) == (1, 1, True)
    assert found.low < 0 < found.high


def test_holm() -> None:
    # As p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") of R.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holms_intervals_say_what_holms_p_values_say(p_values: list[float]) -> None:
    for p, adjusted, level in zip(p_values, holm(p_values), holm_confidences(p_values), strict=True):
        if abs(adjusted - 0.05) > 1e-9:
            assert (p <= 1 - level) == (adjusted <= 0.05)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (7, 10), (150, 199), (10, 10)])
def test_wilson_interval(successes: int, trials: int) -> None:
    """The interval equals scipy's."""
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, trials)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_the_expected_best_is_the_mean_over_all_choices(values: list[float]) -> None:
    found = expected_best(values)
    assert found.trials.tolist() == list(range(1, len(values) + 1))
    for n, mean, std in zip(found.trials, found.mean, found.std, strict=True):
        best = [max(chosen) for chosen in itertools.combinations(values, int(n))]
        assert mean == pytest.approx(np.mean(best), abs=1e-9)
        assert std == pytest.approx(np.std(best), abs=1e-6)


def test_the_expected_best_of_many_trials_is_drawn_at_few_numbers() -> None:
    found = expected_best(np.linspace(0, 1, 5000).tolist())
    assert (found.trials[0], found.trials[-1], len(found.trials)) == (1, 5000, 200)
    assert found.mean[0] == pytest.approx(0.5)
    assert found.mean[-1] == pytest.approx(1.0)
    assert np.isfinite(found.std).all()
