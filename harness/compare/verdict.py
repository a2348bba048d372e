"""The verdict of a comparison: which candidate is better, by how much, and whether chance explains it.

On redrawn splits the corrected resampled t interval of the difference decides. On a fixed split the bootstrap
interval over tracks and seeds decides. Both are Holm-corrected over the pairs. The other statistics are reported,
but do not change the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from harness.core.stats import (
    Booleans,
    Estimate,
    corrected_resampled_t,
    holm,
    holm_confidences,
    mcnemar_exact,
    paired_bootstrap,
    probability_of_outperforming,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResamplingScheme:
    """How the repeats were drawn: each on its own split (`redrawn`), or all on the same split.

    `train`, `valid` and `test` are the mean numbers of tracks of the three parts. Test parts are drawn from all
    tracks except the studies' validation part. Two test parts therefore share test / (train + test) of their
    tracks, as the correction for redrawn splits assumes.
    """

    redrawn: bool
    train: float
    valid: float
    test: float

    @property
    def drawn(self) -> str:
        """The word for what differs between repeats: splits or seeds."""
        return "splits" if self.redrawn else "seeds"


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

    `low` and `high` are the ends of the difference's interval. The interval and `p` are Holm-corrected over the
    pairs. `wins` counts the repeats in which `a` scored higher, `losses` those in which `b` did.
    `outperforms` is the probability that `a` scores higher in a repeat, with its interval. `mcnemar_p` and
    `tracks_difference` (a bootstrap over tracks) compare the best checkpoints on the study's own test part.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    repeats: int
    outperforms: tuple[float, float, float]
    mcnemar_p: float | None
    tracks_difference: Estimate | None
    drawn: str

    @property
    def winner(self) -> str | None:
        """The name of the better candidate, None if no difference is shown."""
        if self.low > 0:
            return self.a
        return self.b if self.high < 0 else None

    def leader_first(self) -> Pair:
        """Return the same pair with the candidate of the higher mean as `a`."""
        if self.difference >= 0:
            return self
        (chance, low, high), tracks = self.outperforms, self.tracks_difference
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            wins=self.losses,
            losses=self.wins,
            outperforms=(1 - chance, 1 - high, 1 - low),
            tracks_difference=tracks and Estimate(-tracks.value, -tracks.high, -tracks.low, tracks.p),
        )

    def sentence(self, corrected: bool = False) -> str:
        """Return the verdict on the pair in percentage points; `corrected`: name the Holm correction."""
        pair = self.leader_first()
        leader, other, low, high = pair.a, pair.b, pair.low, pair.high
        label = "95 % CI" + (" (Holm-corrected)" if corrected else "")
        digits = 1 if round(100 * low, 1) else 2  # "0.0 to 7.6" does not show whether the interval contains 0
        interval = f"{label} {100 * low:.{digits}f} to {100 * high:.{digits}f}"
        points = f"{100 * pair.difference:.1f} points"
        on = f"{pair.wins} of {self.repeats} {self.drawn}, p = {self.p:.2g}"
        if self.winner is None:
            return (
                f"no difference shown between {leader} and {other}: {points}, {interval}, {leader} ahead on {on}"
            )
        return f"{leader} beats {other} by {points}, {interval}, on {on}"


def estimate_accuracy(scores: Scores, scheme: ResamplingScheme, tracks: float) -> Estimate:
    """Return a candidate's mean accuracy with its 95 % interval; `tracks` is the mean size of the measured parts.

    The method depends on the scheme: over the splits, or over tracks and seeds.
    """
    if scheme.redrawn:
        estimate = _over_splits(scores.accuracies, scheme.train, tracks, 0.95)
    else:
        correct = np.stack(scores.correct)
        estimate = paired_bootstrap(correct, np.zeros_like(correct))
    low, high = max(0.0, estimate.low), min(1.0, estimate.high)
    return Estimate(estimate.value, low, high, estimate.p)


def judge(candidates: Sequence[Scores], scheme: ResamplingScheme) -> tuple[Pair, ...]:
    """Compare each pair of candidates.

    Raises ValueError if the candidates have different numbers of repeats.
    """
    pairs = list(combinations(candidates, 2))
    p_values = [_decide(a, b, scheme, 0.95).p for a, b in pairs]
    judged = []
    for (a, b), p, confidence in zip(pairs, holm(p_values), holm_confidences(p_values), strict=True):
        decided = _decide(a, b, scheme, confidence)
        ahead = [x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)]
        own = (a.own, b.own)
        judged.append(
            Pair(
                a=a.name,
                b=b.name,
                difference=decided.value,
                low=max(-1.0, decided.low),
                high=min(1.0, decided.high),
                p=p,
                wins=sum(difference > 0 for difference in ahead),
                losses=sum(difference < 0 for difference in ahead),
                repeats=len(ahead),
                outperforms=probability_of_outperforming(a.accuracies, b.accuracies),
                mcnemar_p=None if own[0] is None or own[1] is None else mcnemar_exact(own[0], own[1]),
                tracks_difference=None
                if own[0] is None or own[1] is None
                else paired_bootstrap(own[0][None], own[1][None]),
                drawn=scheme.drawn,
            )
        )
    return tuple(judged)


def verdict_of(pairs: Sequence[Pair]) -> str:
    """Return the verdict on all pairs as one sentence."""
    return "; ".join(pair.sentence(corrected=len(pairs) > 1) for pair in pairs)


def _decide(a: Scores, b: Scores, scheme: ResamplingScheme, confidence: float) -> Estimate:
    if scheme.redrawn:
        differences = [x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)]
        return _over_splits(differences, scheme.train, scheme.test, confidence)
    return paired_bootstrap(np.stack(a.correct), np.stack(b.correct), confidence=confidence)


def _over_splits(values: Sequence[float], train: float, judged: float, confidence: float) -> Estimate:
    return corrected_resampled_t(
        values, round(train), round(judged), confidence=confidence, resolution=1 / round(judged)
    )
