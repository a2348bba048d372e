"""What the traits of a study decide: estimates with intervals, sentences, and the JSON form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.compare.traits.game import CONTROLS, Floats, Game, control_share, mean_over_seeds, set_key, shares
from harness.compare.verdict import ResamplingScheme, show_p
from harness.core.json_types import JsonObject
from harness.core.stats import Estimate, holm, holm_confidences, tracks_by_fits

NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A mean difference of accuracies, as a fraction, with its interval.

    `confidence` is the interval's own coverage: it excludes zero exactly if `p`, Holm's over the family of
    effects that it belongs to, is at most 0.05.
    """

    value: float
    low: float
    high: float
    confidence: float
    p: float

    @property
    def sign(self) -> int:
        """1 or -1 if the interval excludes zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __str__(self) -> str:
        """Return the effect in points with its interval."""
        digits = 1 if round(100 * self.low, 1) and round(100 * self.high, 1) else 2
        return f"{100 * self.value:z.1f} points, {100 * self.low:z.{digits}f} to {100 * self.high:z.{digits}f}"

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping; differences are fractions."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "p": self.p,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """What is found of one family, or of several merged ones.

    `alone` is the accuracy of its columns alone; None for merged families and for controls. `lost` is what the
    accuracy of all families loses where this one is permuted, `share` its Shapley share.
    """

    name: str
    columns: int
    alone: Estimate | None
    lost: Effect
    share: Effect

    def sentence(self, whole: float) -> str:
        """Return what is found, in words; `whole` is the sum of all shares."""
        if not self.lost.sign and not self.share.sign:
            text = f"{self.name}: no effect shown (share {self.share})"
        else:
            text = (
                f"{self.name}: share {100 * self.share.value:.1f} of {100 * whole:.1f} points, "
                f"{100 * self.share.low:.1f} to {100 * self.share.high:.1f}; "
                f"permuted it loses {self.lost}"
            )
        if self.alone is not None:
            text += f"; alone {self.alone.value:.2f}, {self.alone.low:.2f} to {self.alone.high:.2f}"
        return text

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping."""
        alone = self.alone
        return {
            "name": self.name,
            "columns": self.columns,
            "alone": None if alone is None else {"value": alone.value, "low": alone.low, "high": alone.high},
            "lost": self.lost.as_json(),
            "share": self.share.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnerResult:
    """What one learner finds. `whole` and `none` are its accuracies with all families, and with all permuted.

    `merged` are the rows of the coarser grouping. `ahead` has for each pair of families the difference of their
    shares. `uses` and `given` are what the trained network loses where a family of the test tracks is permuted,
    and permuted given the other columns: they describe this network, not the data. `recalls` are the recalls of
    each class: with all, without and alone, float [families, classes].
    """

    name: str
    whole: Estimate
    none: float
    rows: tuple[FamilyRow, ...]
    merged: tuple[FamilyRow, ...]
    controls: tuple[FamilyRow, ...]
    apart: Mapping[str, Estimate]
    ahead: Mapping[tuple[str, str], Effect]
    uses: tuple[float, ...]
    given: tuple[float, ...]
    recalls: Mapping[str, NDArray[np.float64]]

    @property
    def total(self) -> float:
        """The accuracy of all families less that of none: what the shares sum to."""
        return self.whole.value - self.none

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping."""
        return {
            "learner": self.name,
            "accuracy": {"value": self.whole.value, "low": self.whole.low, "high": self.whole.high},
            "all_permuted": self.none,
            "families": [
                {**row.as_json(), "network_uses": uses, "network_uses_given_the_others": given}
                for row, uses, given in zip(self.rows, self.uses, self.given, strict=True)
            ],
            "merged": [row.as_json() for row in self.merged],
            "controls": [row.as_json() for row in self.controls],
            "apart": {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in self.apart.items()},
            "differences_of_shares": [{"names": list(pair), **e.as_json()} for pair, e in self.ahead.items()],
            "recall": {name: np.round(values, 6).tolist() for name, values in self.recalls.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatAnswers:
    """The predictions of one repeat by the keys of its trainings, and the truth: int [tracks]."""

    guesses: Mapping[str, NDArray[np.int64]]
    truth: NDArray[np.int64]

    @property
    def correct(self) -> dict[str, Floats]:
        """Whether each prediction is right: 1.0 or 0.0 [tracks], by key."""
        return {key: (guess == self.truth).astype(np.float64) for key, guess in self.guesses.items()}


def learner_result(
    name: str, game: Game, repeats: Sequence[RepeatAnswers], scheme: ResamplingScheme, classes: int
) -> LearnerResult:
    """Return what a learner's repeats say, by the rule of comparisons: intervals over tracks and fits."""
    correct = [repeat.correct for repeat in repeats]
    values = [mean_over_seeds(each, game) for each in correct]
    whole = [value(game.whole) for value in values]
    singles = [1 << index for index in range(game.size)]
    found = _rows(values, whole, game.whole, singles, scheme)
    families = game.families.families
    alone = [_accuracy([each[f"alone/{index}"] for each in correct], scheme) for index in range(game.size)]
    rows = tuple(
        FamilyRow(name=family.name, columns=len(family.columns), alone=alone[index], lost=lost, share=share)
        for index, (family, (lost, share)) in enumerate(zip(families, found, strict=True))
    )
    of_family = [shares(value, singles) for value in values]
    pairs = list(combinations(range(game.size), 2))
    ahead = _effects([[each[a] - each[b] for each in of_family] for a, b in pairs], scheme)
    seen = [set_key(game.whole ^ single) for single in singles]
    one = set_key(game.whole)
    return LearnerResult(
        name=name,
        whole=_accuracy(whole, scheme),
        none=_mean([value(0) for value in values]),
        rows=rows,
        merged=_merged(values, whole, game, scheme),
        controls=_controls(correct, game, scheme),
        apart={c: _accuracy([each[f"apart/{c}"] for each in correct], scheme) for c in game.families.apart},
        ahead={(families[a].name, families[b].name): effect for (a, b), effect in zip(pairs, ahead, strict=True)},
        uses=_lost_by("uses", correct, game),
        given=_lost_by("given", correct, game),
        recalls={
            "all": _recalls(repeats, [one], classes)[0],
            "without": _recalls(repeats, seen, classes),
            "alone": _recalls(repeats, [f"alone/{index}" for index in range(game.size)], classes),
        },
    )


Values = Sequence[Callable[[int], Floats]]  # of the masks, in each repeat


def _merged(values: Values, whole: list[Floats], game: Game, scheme: ResamplingScheme) -> tuple[FamilyRow, ...]:
    groups = game.families.coarse
    if not groups:
        return ()
    masks = [sum(1 << index for index in parts) for _, parts in groups]
    columns = [sum(len(game.families.families[index].columns) for index in parts) for _, parts in groups]
    found = _rows(values, whole, game.whole, masks, scheme)
    return tuple(
        FamilyRow(name=name, columns=count, alone=None, lost=lost, share=share)
        for (name, _), count, (lost, share) in zip(groups, columns, found, strict=True)
    )


def _rows(
    values: Values, whole: list[Floats], all_: int, masks: list[int], scheme: ResamplingScheme
) -> list[tuple[Effect, Effect]]:
    """Return for each player what is lost without it, and its share; Holm's levels are over the players."""
    lost = [[full - value(all_ ^ mask) for full, value in zip(whole, values, strict=True)] for mask in masks]
    played = [shares(value, masks) for value in values]
    of_player = [[each[place] for each in played] for place in range(len(masks))]
    return list(zip(_effects(lost, scheme), _effects(of_player, scheme), strict=True))


def _controls(
    correct: Sequence[Mapping[str, Floats]], game: Game, scheme: ResamplingScheme
) -> tuple[FamilyRow, ...]:
    """Return the rows of the controls. Each is a hypothesis of its own: Holm would hide one that fails."""
    found = []
    for name in CONTROLS:
        all_ = game.whole
        lost = [each[f"control/{name}/{all_}/here"] - each[f"control/{name}/{all_}/gone"] for each in correct]
        share = [control_share(each, game, name) for each in correct]
        columns = 20 if name == "noise" else len(game.families.families[0].columns)
        effects = [_effects([differences], scheme)[0] for differences in (lost, share)]
        found.append(FamilyRow(name=name, columns=columns, alone=None, lost=effects[0], share=effects[1]))
    return tuple(found)


def _effects(differences: Sequence[Sequence[Floats]], scheme: ResamplingScheme) -> list[Effect]:
    """Return the effect of each list of differences (for each repeat one value a track), at Holm's levels."""

    def estimate(each: Sequence[Floats], confidence: float = 0.95) -> Estimate:
        return tracks_by_fits(list(each), scheme.clusters, scheme.ratio, confidence=confidence)

    p_values = [estimate(each).p for each in differences]
    found = []
    for each, p, confidence in zip(differences, holm(p_values), holm_confidences(p_values), strict=True):
        at = estimate(each, confidence)
        found.append(Effect(value=at.value, low=at.low, high=at.high, confidence=confidence, p=p))
    return found


def _accuracy(correct: Sequence[Floats], scheme: ResamplingScheme) -> Estimate:
    """Return a mean accuracy with its interval. Every track counts alike, so that the shares sum to it exactly."""
    found = tracks_by_fits(list(correct), scheme.clusters, scheme.ratio)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _mean(values: Sequence[Floats]) -> float:
    return float(np.concatenate(list(values)).mean())


def _lost_by(kind: str, correct: Sequence[Mapping[str, Floats]], game: Game) -> tuple[float, ...]:
    full = [each[set_key(game.whole)] for each in correct]
    return tuple(
        _mean([one - each[f"{kind}/{index}"] for one, each in zip(full, correct, strict=True)])
        for index in range(game.size)
    )


def _recalls(repeats: Sequence[RepeatAnswers], keys: Sequence[str], classes: int) -> NDArray[np.float64]:
    """Return the recall of each class over all repeats, for each key: float [keys, classes]."""
    truth = np.concatenate([repeat.truth for repeat in repeats])
    found = np.full((len(keys), classes), np.nan)
    for row, key in zip(found, keys, strict=True):
        right = np.concatenate([repeat.guesses[key] for repeat in repeats]) == truth
        for genre in range(classes):
            if (truth == genre).any():
                row[genre] = right[truth == genre].mean()
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traits:
    """All results. `learners` begins with the study's network, if that was asked for."""

    study: str
    run_id: str
    experiment: str
    data: str
    synthetic: bool
    genres: tuple[str, ...]
    split: str
    repeats: int
    drawn_as: str
    trainings: int
    game: Game
    learners: tuple[LearnerResult, ...]
    warnings: tuple[str, ...]
    ledger: str

    @property
    def robust(self) -> dict[str, int]:
        """The families whose shares all learners find above zero (1), or all below (-1); 0: they do not agree."""
        signs = {family.name: set[int]() for family in self.game.families.families}
        for learner in self.learners:
            for row in learner.rows:
                signs[row.name].add(row.share.sign)
        return {name: found.pop() if len(found) == 1 else 0 for name, found in signs.items()}

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the first learner finds of each family, the largest share first, and where the others agree."""
        first = self.learners[0]
        ordered = sorted(first.rows, key=lambda row: -row.share.value)
        lines = [row.sentence(first.total) for row in ordered]
        if len(self.learners) > 1:
            names = [name for name, sign in self.robust.items() if sign]
            agreed = ", ".join(names) or "none"
            lines.append(f"all {len(self.learners)} learners agree on the sign of the share of: {agreed}")
        return tuple(lines)

    @property
    def failed_controls(self) -> tuple[str, ...]:
        """A sentence for each control that shows an effect, which it must not."""
        return tuple(
            f"the control {row.name} shows an effect with {learner.name} ({what} {effect}, {show_p(effect.p)}): "
            "of controls that hold nothing one in twenty does by chance"
            for learner in self.learners
            for row in learner.controls
            for what, effect in (("permuted it loses", row.lost), ("share", row.share))
            if effect.sign
        )

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints; accuracies and differences are fractions."""
        return {
            "study": self.study,
            "data": self.data,
            "synthetic": self.synthetic,
            "split": self.split,
            "repeats": self.repeats,
            "trainings": self.trainings,
            "families": {family.name: list(family.columns) for family in self.game.families.families},
            "merged": {name: list(parts) for name, parts in self.game.families.merged.items()},
            "apart": list(self.game.families.apart),
            "learners": [learner.as_json() for learner in self.learners],
            "robust": self.robust,
            "sentences": list(self.sentences),
            "warnings": list(self.warnings),
            "run_id": self.run_id,
        }
