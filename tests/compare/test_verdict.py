"""From repeats to a verdict: the rule, the sentence, and what simulation says of its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from harness.compare.verdict import ResamplingScheme, Scores, estimate_accuracy, judge, verdict_of
from harness.core.records import Split, derive_seed
from harness.core.stats import Booleans, corrected_resampled_t, paired_bootstrap
from harness.data import Tracks, load_tracks, stratified_split

REDRAWN = ResamplingScheme(redrawn=True, train=640, valid=160, test=200)
FIXED = ResamplingScheme(redrawn=False, train=640, valid=160, test=200)


def scores(name: str, right: list[int], tracks: int = 200) -> Scores:
    """A candidate that gets the first so many tracks right, repeat by repeat."""
    flags = tuple(np.arange(tracks) < count for count in right)
    return Scores(name=name, correct=flags, own=flags[0])


def test_the_sentence_of_a_difference() -> None:
    a = scores("fcnn", [150, 152, 148, 151, 149])
    b = scores("cnn", [118, 125, 120, 119, 117])
    (pair,) = judge([b, a], REDRAWN)
    assert pair.difference == pytest.approx(-0.151)
    assert (pair.wins, pair.losses, pair.winner) == (0, 5, "fcnn")
    expected = corrected_resampled_t([x - y for x, y in zip(b.accuracies, a.accuracies, strict=True)], 640, 200)
    assert (pair.low, pair.high, pair.p) == (expected.low, expected.high, expected.p)
    assert verdict_of([pair]) == (
        f"fcnn beats cnn by 15.1 points, 95 % CI {-100 * expected.high:.1f} to {-100 * expected.low:.1f}, "
        f"on 5 of 5 splits, p = {expected.p:.2g}"
    )


def test_the_sentence_of_none() -> None:
    (pair,) = judge([scores("a", [150, 140, 151]), scores("b", [141, 152, 145])], REDRAWN)
    assert pair.winner is None
    assert verdict_of([pair]).startswith("no difference shown between a and b: 0.5 points, 95 % CI -")
    assert "a ahead on 2 of 3 splits" in verdict_of([pair])


def test_two_equal_differences_of_one_track_are_no_proof() -> None:
    (pair,) = judge(
        [scores("a", [11, 11], 20), scores("b", [10, 10], 20)],
        ResamplingScheme(redrawn=True, train=64, valid=16, test=20),
    )
    assert pair.difference == pytest.approx(0.05)
    assert pair.winner is None
    assert pair.low < 0 < pair.high


def test_a_fixed_split_is_judged_by_the_bootstrap() -> None:
    chance = np.random.default_rng(0)
    a, b = (
        Scores(name=name, correct=tuple(chance.random(200) < level for _ in range(4)))
        for name, level in (("a", 0.8), ("b", 0.6))
    )
    (pair,) = judge([a, b], FIXED)
    expected = paired_bootstrap(np.stack(a.correct), np.stack(b.correct))
    assert (pair.difference, pair.low, pair.high) == (expected.value, expected.low, expected.high)
    assert pair.winner == "a"
    assert "seeds" in verdict_of([pair])
    assert pair.mcnemar_p is None


def test_three_contenders_are_three_corrected_pairs() -> None:
    chance = np.random.default_rng(1)
    three = [
        Scores(name=name, correct=tuple(chance.random(200) < level for _ in range(6)))
        for name, level in (("a", 0.75), ("b", 0.73), ("c", 0.4))
    ]
    pairs = judge(three, REDRAWN)
    alone = [judge([three[i], three[j]], REDRAWN)[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair, single in zip(pairs, alone, strict=True):
        assert pair.p >= single.p
        assert pair.low <= single.low
        assert pair.high >= single.high
        # The interval and the corrected p-value say the same.
        assert (pair.winner is not None) == (pair.p <= 0.05)
    assert verdict_of(pairs).count("Holm-corrected") == 3


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=12), st.lists(st.integers(0, 50), min_size=2, max_size=12)
)
def test_swapping_the_two_turns_the_verdict_round(first: list[int], second: list[int]) -> None:
    length = min(len(first), len(second))
    a, b = scores("a", first[:length], 50), scores("b", second[:length], 50)
    (one,), (other,) = judge([a, b], REDRAWN), judge([b, a], REDRAWN)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.winner == other.winner
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.p == pytest.approx(other.p)


@pytest.mark.parametrize("scheme", [REDRAWN, FIXED])
def test_an_accuracy_has_its_mean_inside_its_interval(scheme: ResamplingScheme) -> None:
    chance = np.random.default_rng(2)
    one = Scores(name="a", correct=tuple(chance.random(200) < 0.7 for _ in range(5)))
    estimate = estimate_accuracy(one, scheme, 200)
    assert estimate.value == pytest.approx(np.mean(one.accuracies))
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1


# How often the rule errs: 200 comparisons of a model with itself, and 200 with a true difference of 10 points.
TRIES, REPEATS = 200, 10
FALSE_ALARMS, FOUND = 16, 160


def simulated(seed: int, lead: float, scheme: ResamplingScheme) -> list[Scores]:
    """Two models on 1000 tracks, each track with a difficulty of its own that both share.

    A training (a seed, and on redrawn splits a train part) shifts the odds of every track a little, and each
    prediction is drawn. `lead` is how much likelier the first is to get a track right, on average.
    """
    chance = np.random.default_rng(seed)
    ease = chance.beta(2.2, 1.2, size=1000)
    pool = 840  # the other 160 chose the settings, and never judge
    fixed = chance.choice(pool, 200, replace=False)
    found: list[list[Booleans]] = [[], []]
    for _ in range(REPEATS):
        test = chance.choice(pool, 200, replace=False) if scheme.redrawn else fixed
        for index, shift in enumerate((lead / 2, -lead / 2)):
            odds = np.clip(ease[test] + shift + chance.normal(0, 0.02), 0, 1)
            found[index].append(chance.random(200) < odds)
    return [Scores(name=name, correct=tuple(flags)) for name, flags in zip("ab", found, strict=True)]


def forests(tracks: Tracks, own: Split, seed: int, handicap: float, scheme: ResamplingScheme) -> list[Scores]:
    """Two small forests of one kind under different seeds, trained for real; the second forgets a share.

    `handicap` is the share of its right answers that are turned wrong, which is a difference known exactly.
    """
    assert tracks.features is not None
    row_of = {track: row for row, track in enumerate(tracks.ids)}
    found: list[list[Booleans]] = [[], []]
    for number in range(REPEATS):
        drawn = derive_seed(seed, "split", number)
        split = stratified_split(tracks, seed=drawn, exclude_from_test=own.valid) if scheme.redrawn else own
        train, test = ([row_of[track] for track in part] for part in (split.train, split.test))
        for index in range(2):
            forest = RandomForestClassifier(10, random_state=derive_seed(seed, number, index))
            guesses = forest.fit(tracks.features[train], tracks.labels[train]).predict(tracks.features[test])
            flags = guesses == tracks.labels[test]
            if index:
                chance = np.random.default_rng(derive_seed(seed, number, "handicap"))
                flags &= chance.random(len(flags)) >= handicap
            found[index].append(flags)
    return [Scores(name=name, correct=tuple(flags)) for name, flags in zip("ab", found, strict=True)]


def differences_found(tries: list[list[Scores]], scheme: ResamplingScheme) -> int:
    return sum(judge(scores, scheme)[0].winner is not None for scores in tries)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [REDRAWN, FIXED], ids=["redrawn", "fixed"])
def test_simulated_models(scheme: ResamplingScheme) -> None:
    itself, apart = ([simulated(seed, lead, scheme) for seed in range(TRIES)] for lead in (0.0, 0.1))
    found = (differences_found(itself, scheme), differences_found(apart, scheme))
    print("simulated models, differences found in 200 tries: without", found[0], "with", found[1])
    assert found[0] <= FALSE_ALARMS
    assert found[1] >= FOUND


@pytest.mark.slow
@pytest.mark.parametrize("redrawn", [True, False], ids=["redrawn", "fixed"])
def test_real_forests(gtzan: Path, redrawn: bool) -> None:
    tracks = load_tracks(gtzan)
    own = stratified_split(tracks, seed=0)
    sizes = {part: len(getattr(own, part)) for part in ("train", "valid", "test")}
    scheme = ResamplingScheme(redrawn=redrawn, **sizes)
    itself = [forests(tracks, own, seed, 0.0, scheme) for seed in range(TRIES)]
    accuracy = float(np.mean([scores.accuracies for pair in itself for scores in pair]))
    apart = [forests(tracks, own, seed, 0.1 / accuracy, scheme) for seed in range(TRIES)]
    found = (differences_found(itself, scheme), differences_found(apart, scheme))
    print("small forests on real features, differences found in 200 tries: without", found[0], "with", found[1])
    assert found[0] <= FALSE_ALARMS
    assert found[1] >= FOUND
