"""From repeats to a verdict: the rule and the sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.verdict import Scores, estimate_accuracy, judge, show_p, verdict_of
from harness.core.stats import Estimate, corrected_resampled_t, tracks_by_fits
from tests.support.comparisons import scheme_of


def scores(name: str, right: Sequence[int], tracks: int = 200) -> Scores:
    """A candidate that gets the first so many tracks right, repeat by repeat."""
    flags = tuple(np.arange(tracks) < count for count in right)
    return Scores(name=name, correct=flags, own=flags[0])


def drawn(name: str, level: float, seed: int, repeats: int = 10, tracks: int = 40) -> Scores:
    """A candidate with answers that are drawn anew in each repeat."""
    chance = np.random.default_rng(seed)
    return Scores(name=name, correct=tuple(chance.random(tracks) < level for _ in range(repeats)))


def by_hand(a: Scores, b: Scores, *, redrawn: bool, confidence: float = 0.95) -> Estimate:
    scheme = scheme_of(len(a.correct), len(a.correct[0]), redrawn=redrawn)
    differences = [x.astype(float) - y for x, y in zip(a.correct, b.correct, strict=True)]
    return tracks_by_fits(differences, scheme.clusters, 0.25 if redrawn else 0.0, confidence=confidence)


@pytest.mark.parametrize("redrawn", [True, False])
def test_the_sentence_of_a_difference(redrawn: bool) -> None:
    a, b = drawn("fcnn", 0.8, 0), drawn("cnn", 0.5, 1)
    (pair,) = judge([[b, a]], scheme_of(10, 40, redrawn=redrawn))
    expected = by_hand(a, b, redrawn=redrawn)
    assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(
        (-expected.value, -expected.high, -expected.low, expected.p)
    )
    assert (pair.winner, pair.confidence, pair.exact) == ("fcnn", 0.95, False)
    scope, what = (
        ("with these settings", "splits") if redrawn else ("with these settings and this train list", "seeds")
    )
    assert verdict_of([pair]) == (
        f"fcnn beats cnn by {100 * expected.value:.1f} points {scope}, "
        f"95 % CI {100 * expected.low:.1f} to {100 * expected.high:.1f}, "
        f"on {pair.losses} of 10 {what}, {show_p(expected.p)}"
    )


def test_the_sentence_of_none_says_what_is_shown() -> None:
    a, b = drawn("a", 0.7, 2), drawn("b", 0.7, 3)
    (pair,) = judge([[a, b]], scheme_of(10, 40, redrawn=True))
    assert pair.winner is None
    text = verdict_of([pair])
    leader, other = ("a", "b") if pair.difference >= 0 else ("b", "a")
    assert text.startswith(f"no difference shown between {leader} and {other} with these settings: ")
    assert f"so they lie within ±{100 * max(-pair.low, pair.high):.1f} points of one another" in text
    assert f"{leader} ahead on {max(pair.wins, pair.losses)} of 10 splits" in text


def test_two_equal_differences_of_one_track_are_no_proof() -> None:
    (pair,) = judge([[scores("a", [11, 11], 20), scores("b", [10, 10], 20)]], scheme_of(2, 20, redrawn=False))
    assert pair.difference == pytest.approx(0.05)
    assert (pair.winner, pair.exact, pair.p) == (None, True, 1)
    assert pair.low < 0 < pair.high
    assert "by the exact sign test" in verdict_of([pair])


def test_the_checkpoints_are_held_against_each_other_track_by_track() -> None:
    a, b = scores("a", [150, 152]), scores("b", [130, 125])
    (pair,) = judge([[b, a]], scheme_of(2, 200, redrawn=False))
    one, other = b.own, a.own
    assert one is not None
    assert other is not None
    assert pair.checkpoints == tracks_by_fits([one.astype(float) - other], [np.arange(200)], 0.0)
    assert pair.mcnemar_p == pytest.approx(2 * 0.5**20)
    turned = pair.leader_first().checkpoints
    assert turned is not None
    assert turned.value == pytest.approx(0.1)
    assert turned.low < turned.value < turned.high


def test_each_interval_names_its_own_level() -> None:
    three = [drawn("a", 0.75, 4), drawn("b", 0.72, 5), drawn("c", 0.3, 6)]
    scheme = scheme_of(10, 40, redrawn=True)
    pairs = judge([three], scheme)
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in pairs:
        one, other = (next(s for s in three if s.name == name) for name in (pair.a, pair.b))
        alone = by_hand(one, other, redrawn=True, confidence=pair.confidence)
        assert (pair.low, pair.high) == pytest.approx((alone.low, alone.high))
        assert pair.p >= alone.p
        # The interval and the corrected p-value say the same.
        assert (pair.winner is not None) == (pair.p <= 0.05)
    levels = sorted(pair.confidence for pair in pairs)
    assert levels == pytest.approx([0.95, 0.975, 1 - 0.05 / 3])
    assert sorted(pair.level for pair in pairs) == ["95 %", "97.5 %", "98.3 %"]
    text = verdict_of(pairs)
    assert text.count("(Holm)") == 3
    for pair in pairs:
        assert f"{pair.level} CI" in text


def test_like_is_held_against_like() -> None:
    """Single networks and ensembles make pairs of their own; Holm's levels are over all of them."""
    singles, ensembles = [drawn("a", 0.7, 2), drawn("b", 0.6, 3)], [drawn("a x5", 0.75, 4), drawn("b x5", 0.3, 5)]
    pairs = judge([singles, ensembles], scheme_of(10, 40, redrawn=True))
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a x5", "b x5")]
    assert sorted(pair.confidence for pair in pairs) == pytest.approx([0.95, 0.975])


def test_the_sentence_of_what_tuning_gained() -> None:
    scheme = scheme_of(10, 40, redrawn=True)
    (gained,) = judge([[drawn("net", 0.8, 0), drawn("net untuned", 0.5, 1)]], scheme)
    assert gained.gain_sentence() == (
        f"tuning gained net {100 * gained.difference:.1f} points against its default setting: "
        f"95 % CI {100 * gained.low:.1f} to {100 * gained.high:.1f}, "
        f"ahead on {gained.wins} of 10 splits, {show_p(gained.p)}"
    )
    (cost,) = judge([[drawn("net", 0.5, 1), drawn("net untuned", 0.8, 0)]], scheme)
    assert cost.gain_sentence().startswith(
        f"tuning cost net {-100 * cost.difference:.1f} points against its default"
    )
    (none,) = judge([[drawn("net", 0.7, 2), drawn("net untuned", 0.7, 3)]], scheme)
    assert none.winner is None
    assert none.gain_sentence().startswith("no gain of tuning net over its default setting is shown: ")
    assert none.gain_sentence().endswith(f"so it lies within ±{100 * none.within:.1f} points")


def test_a_tiny_p_is_not_printed_to_its_last_digit() -> None:
    assert (show_p(0.0123), show_p(1e-4), show_p(9e-5)) == ("p = 0.012", "p = 0.0001", "p < 0.0001")


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=12), st.lists(st.integers(0, 50), min_size=2, max_size=12)
)
def test_swapping_the_two_turns_the_verdict_round(first: list[int], second: list[int]) -> None:
    length = min(len(first), len(second))
    a, b = scores("a", first[:length], 50), scores("b", second[:length], 50)
    scheme = scheme_of(length, 50, redrawn=True)
    (one,), (other,) = judge([[a, b]], scheme), judge([[b, a]], scheme)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.winner == other.winner
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.p == pytest.approx(other.p)


@pytest.mark.parametrize("redrawn", [True, False])
def test_an_accuracy_has_its_mean_inside_its_interval(redrawn: bool) -> None:
    one, scheme = drawn("a", 0.7, 2), scheme_of(10, 40, redrawn=redrawn)
    estimate = estimate_accuracy(one, scheme)
    assert estimate.value == pytest.approx(np.mean(one.accuracies))
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    if redrawn:  # the published rule for one accuracy
        expected = corrected_resampled_t(one.accuracies, 0.25, resolution=1 / 40)
        assert (estimate.low, estimate.high) == (expected.low, expected.high)
