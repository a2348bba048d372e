"""The verdict of a comparison: which candidate is better, by how much, and whether chance explains it.

One rule decides on redrawn splits and on a fixed one: the interval of the difference over tracks and fits
(`tracks_by_fits`), at Holm's levels if there are several pairs. The other statistics are reported, but do not
change the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from numpy.typing import NDArray

from harness.core.stats import (
    Booleans,
    Estimate,
    corrected_resampled_t,
    holm,
    holm_confidences,
    mcnemar_exact,
    tracks_by_fits,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResamplingScheme:
    """How the repeats were drawn: each on its own split (`redrawn`), or all on the same split.

    `train`, `valid` and `test` are the mean numbers of tracks of the three parts, `pool` is the number of tracks
    that the test parts are drawn from. `clusters` has for each repeat the number of each test track's cluster,
    int [tracks], `own_clusters` the same for the test part of the studies' own split: identical tracks, and those
    of a group, have one number. `nested` is True if each repeat had a search of its own.
    """

    redrawn: bool
    train: float
    valid: float
    test: float
    pool: int
    clusters: tuple[NDArray[Any], ...]
    own_clusters: NDArray[Any]
    nested: bool = False

    @property
    def ratio(self) -> float:
        """The share of a drawn test part in the pool, over that of the rest; 0 where nothing is redrawn."""
        return self.test / (self.pool - self.test) if self.redrawn else 0.0

    @property
    def drawn(self) -> str:
        """The word for what differs between repeats: splits or seeds."""
        return "splits" if self.redrawn else "seeds"

    @property
    def scope(self) -> str:
        """What a verdict speaks of, as a phrase: settings or tuned models, and on a fixed split its train list."""
        if self.nested:
            return "as tuned models" if self.redrawn else "as tuned models on this train list"
        return "with these settings" if self.redrawn else "with these settings and this train list"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Which test tracks a candidate predicted correctly: bool [tracks] for each repeat.

    The tracks of a repeat are the same for every candidate. `own` is the same for the study's best checkpoint on
    the study's own test part: bool [tracks], None for a baseline.
    """

    name: str
    correct: tuple[Booleans, ...]
    own: Booleans | None = None

    @property
    def accuracies(self) -> list[float]:
        """The test accuracy of each repeat."""
        return [float(flags.mean()) for flags in self.correct]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The comparison of two candidates; differences are `a` minus `b`, as fractions.

    `low` and `high` are the ends of the difference's interval, `confidence` is its own coverage: with several
    pairs it follows Holm's steps, so that the interval excludes zero exactly if `p`, which is Holm-corrected, is
    at most 0.05. `exact` is True if p is that of the exact sign test. `wins` counts the repeats in which `a`
    scored higher, `losses` those in which `b` did. `checkpoints` is the difference of the two best checkpoints on
    the studies' own test part, with its interval over tracks, and `mcnemar_p` its exact test. `scope` is what the
    verdict speaks of, as a phrase.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    confidence: float
    p: float
    exact: bool
    wins: int
    losses: int
    repeats: int
    mcnemar_p: float | None
    checkpoints: Estimate | None
    drawn: str
    scope: str

    @property
    def winner(self) -> str | None:
        """The name of the better candidate, None if no difference is shown."""
        if self.low > 0:
            return self.a
        return self.b if self.high < 0 else None

    @property
    def level(self) -> str:
        """The coverage of the interval as it is printed: `95 %`, `98.3 %`."""
        digits = 1 if round(100 * self.confidence, 1) < 100 else 3  # a hundred pairs or more
        return f"{round(100 * self.confidence, digits):g} %"

    @property
    def within(self) -> float:
        """The larger end of the interval: a larger difference than this, to either side, is excluded."""
        return max(abs(self.low), abs(self.high))

    def leader_first(self) -> Pair:
        """Return the same pair with the candidate of the higher mean as `a`."""
        if self.difference >= 0:
            return self
        own = self.checkpoints
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            wins=self.losses,
            losses=self.wins,
            checkpoints=own and replace(own, value=-own.value, low=-own.high, high=-own.low),
        )

    @property
    def interval(self) -> str:
        """The interval in percentage points, with its level, as it is printed."""
        digits = 1 if round(100 * self.low, 1) and round(100 * self.high, 1) else 2  # "0.0" may contain 0 or not
        return f"{self.level} CI {100 * self.low:z.{digits}f} to {100 * self.high:z.{digits}f}"

    def _proof(self, corrected: bool) -> str:
        """Return the p-value as it is printed, with its correction, and its rule if that is the sign test."""
        by = " by the exact sign test" if self.exact else ""
        return f"{show_p(self.p)}{' (Holm)' if corrected else ''}{by}"

    def gain_sentence(self, corrected: bool = False) -> str:
        """Return what tuning gained, for a pair of a chosen setting and the default setting of its model."""
        points = f"{100 * self.difference:z.1f} points"
        won = f"ahead on {self.wins} of {self.repeats} {self.drawn}"
        shown = f"{self.interval}, {won}, {self._proof(corrected)}"
        if self.winner is None:
            within = f"so it lies within ±{100 * self.within:.1f} points"
            return f"no gain of tuning {self.a} over its default setting is shown: {points}, {shown}, {within}"
        verb = f"gained {self.a}" if self.winner == self.a else f"cost {self.a}"
        return f"tuning {verb} {points.removeprefix('-')} against its default setting: {shown}"

    def sentence(self, corrected: bool = False) -> str:
        """Return the verdict on the pair in percentage points; `corrected`: name the Holm correction of p."""
        pair = self.leader_first()
        interval, points = pair.interval, f"{100 * pair.difference:.1f} points"
        won = f"{pair.wins} of {self.repeats} {self.drawn}, {self._proof(corrected)}"
        if self.winner is None:
            return (
                f"no difference shown between {pair.a} and {pair.b} {self.scope}: {points}, {interval}, "
                f"so they lie within ±{100 * self.within:.1f} points of one another, {pair.a} ahead on {won}"
            )
        return f"{pair.a} beats {pair.b} by {points} {self.scope}, {interval}, on {won}"


def show_p(p: float) -> str:
    """Return a p-value as it is printed; below 0.0001 no digit of it means anything."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def estimate_accuracy(scores: Scores, scheme: ResamplingScheme) -> Estimate:
    """Return a candidate's mean test accuracy with its 95 % interval, over the splits or over tracks and fits.

    The corrected resampled t is right for a single accuracy: most of its variance is shared by all repeats, as the
    correction assumes. For a difference it is far too wide.
    """
    if scheme.redrawn:
        resolution = 1 / round(scheme.test)
        estimate = corrected_resampled_t(
            scores.accuracies, scheme.ratio, sizes=[len(flags) for flags in scores.correct], resolution=resolution
        )
    else:
        estimate = tracks_by_fits(scores.correct, scheme.clusters, scheme.ratio)
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def judge(groups: Sequence[Sequence[Scores]], scheme: ResamplingScheme) -> tuple[Pair, ...]:
    """Compare each pair of candidates within each group; the levels are Holm's over all of them.

    Raises ValueError if the candidates have different numbers of repeats.
    """
    pairs = [pair for candidates in groups for pair in combinations(candidates, 2)]
    p_values = [_decide(a, b, scheme, 0.95).p for a, b in pairs]
    judged = []
    for (a, b), p, confidence in zip(pairs, holm(p_values), holm_confidences(p_values), strict=True):
        decided = _decide(a, b, scheme, confidence)
        ahead = [x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)]
        both = None if a.own is None or b.own is None else (a.own, b.own)
        judged.append(
            Pair(
                a=a.name,
                b=b.name,
                difference=decided.value,
                low=max(-1.0, decided.low),
                high=min(1.0, decided.high),
                confidence=confidence,
                p=p,
                exact=decided.exact,
                wins=sum(difference > 0 for difference in ahead),
                losses=sum(difference < 0 for difference in ahead),
                repeats=len(ahead),
                mcnemar_p=None if both is None else mcnemar_exact(*both, scheme.own_clusters),
                checkpoints=None
                if both is None
                else _difference([both[0]], [both[1]], [scheme.own_clusters], 0.0),
                drawn=scheme.drawn,
                scope=scheme.scope,
            )
        )
    return tuple(judged)


def verdict_of(pairs: Sequence[Pair]) -> str:
    """Return the verdict on all pairs as one sentence."""
    return "; ".join(pair.sentence(corrected=len(pairs) > 1) for pair in pairs)


def _decide(a: Scores, b: Scores, scheme: ResamplingScheme, confidence: float) -> Estimate:
    return _difference(a.correct, b.correct, scheme.clusters, scheme.ratio, confidence)


def _difference(
    a: Sequence[Booleans],
    b: Sequence[Booleans],
    clusters: Sequence[NDArray[Any]],
    ratio: float,
    confidence: float = 0.95,
) -> Estimate:
    differences = [x.astype(float) - y for x, y in zip(a, b, strict=True)]
    return tracks_by_fits(differences, clusters, ratio, confidence=confidence)
