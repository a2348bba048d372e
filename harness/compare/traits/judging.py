"""Judges the trainings of traits: effects by the rule of comparisons, from the predictions on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.compare.traits.game import (
    CONTROLS,
    NOISE_COLUMNS,
    FamilyGame,
    Game,
    control_share,
    mean_over_seeds,
    set_key,
    shares,
)
from harness.compare.traits.regions import OTHER_SEED, WHOLE, RegionGame
from harness.compare.traits.result import Effect, LearnerResult, Row
from harness.compare.verdict import ResamplingScheme
from harness.core.search_stats import Floats
from harness.core.stats import Estimate, holm, holm_confidences, tracks_by_fits


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
    if isinstance(game, FamilyGame):
        return _of_families(name, game, repeats, scheme, classes)
    assert isinstance(game, RegionGame)
    return _of_regions(name, game, repeats, scheme, classes)


def _of_regions(
    name: str, game: RegionGame, repeats: Sequence[RepeatAnswers], scheme: ResamplingScheme, classes: int
) -> LearnerResult:
    correct = [repeat.correct for repeat in repeats]
    count = len(game.regions)
    keys = {kind: [f"{kind}/{index}" for index in range(count)] for kind in ("without", "alone", "uses")}
    # Held against the training with the same seed: the seed's part of both, which is large, cancels.
    whole, other = ([each[key] for each in correct] for key in (WHOLE, OTHER_SEED))
    lost = _effects(
        [[full - each[key] for full, each in zip(whole, correct, strict=True)] for key in keys["without"]], scheme
    )
    (control,) = _effects([[first - second for first, second in zip(whole, other, strict=True)]], scheme)
    rows = tuple(
        Row(
            name=region.name,
            columns=None,
            alone=_accuracy([each[key] for each in correct], scheme),
            lost=effect,
            share=None,
        )
        for region, key, effect in zip(game.regions, keys["alone"], lost, strict=True)
    )
    return LearnerResult(
        name=name,
        whole=_accuracy(whole, scheme),
        none=_mean([each["none"] for each in correct]),
        rows=rows,
        merged=(),
        controls=(Row(name="nothing masked, another seed", columns=None, alone=None, lost=control, share=None),),
        apart={},
        ahead={},
        uses=_lost_by(keys["uses"], correct, game),
        given=(),
        recalls={
            "all": _recalls(repeats, [[WHOLE]], classes)[0],
            **{kind: _recalls(repeats, [[key] for key in keys[kind]], classes) for kind in ("without", "alone")},
        },
    )


def _of_families(
    name: str, game: FamilyGame, repeats: Sequence[RepeatAnswers], scheme: ResamplingScheme, classes: int
) -> LearnerResult:
    correct = [repeat.correct for repeat in repeats]
    values = [mean_over_seeds(each, game) for each in correct]
    whole = [value(game.whole) for value in values]
    singles = [1 << index for index in range(game.size)]
    played = [shares(value, singles) for value in values]
    found = _effects_of(values, whole, singles, played, scheme)
    families = game.families.families
    alone = [_accuracy([each[f"alone/{index}"] for each in correct], scheme) for index in range(game.size)]
    rows = tuple(
        Row(name=family.name, columns=len(family.columns), alone=alone[index], lost=lost, share=share)
        for index, (family, (lost, share)) in enumerate(zip(families, found, strict=True))
    )
    pairs = list(combinations(range(game.size), 2))
    ahead = _effects([[each[a] - each[b] for each in played] for a, b in pairs], scheme)
    all_, *without = (
        [set_key(mask, seed) for seed in range(game.seeds_of(mask))]
        for mask in (game.whole, *(game.whole ^ single for single in singles))
    )
    indices = range(game.size)
    return LearnerResult(
        name=name,
        whole=_accuracy(whole, scheme),
        none=_mean([value(0) for value in values]),
        rows=rows,
        merged=_merged(values, whole, game, scheme),
        controls=_controls(correct, game, scheme),
        apart={c: _accuracy([each[f"apart/{c}"] for each in correct], scheme) for c in game.families.apart},
        ahead={(families[a].name, families[b].name): effect for (a, b), effect in zip(pairs, ahead, strict=True)},
        uses=_lost_by([f"uses/{index}" for index in indices], correct, game),
        given=_lost_by([f"given/{index}" for index in indices], correct, game),
        recalls={
            "all": _recalls(repeats, [all_], classes)[0],
            "without": _recalls(repeats, without, classes),
            "alone": _recalls(repeats, [[f"alone/{index}"] for index in indices], classes),
        },
    )


Values = Sequence[Callable[[int], Floats]]  # of the masks, in each repeat


def _merged(values: Values, whole: list[Floats], game: FamilyGame, scheme: ResamplingScheme) -> tuple[Row, ...]:
    groups = game.families.coarse
    if not groups:
        return ()
    masks = [sum(1 << index for index in parts) for _, parts in groups]
    columns = [sum(len(game.families.families[index].columns) for index in parts) for _, parts in groups]
    found = _effects_of(values, whole, masks, [shares(value, masks) for value in values], scheme)
    return tuple(
        Row(name=name, columns=count, alone=None, lost=lost, share=share)
        for (name, _), count, (lost, share) in zip(groups, columns, found, strict=True)
    )


def _effects_of(
    values: Values, whole: list[Floats], masks: list[int], played: list[Floats], scheme: ResamplingScheme
) -> list[tuple[Effect, Effect]]:
    """Return for each player what is lost without it, and its share; Holm's levels are over the players.

    `played` are the players' shares in each repeat: float [players, tracks].
    """
    every = sum(masks)
    lost = [[full - value(every ^ mask) for full, value in zip(whole, values, strict=True)] for mask in masks]
    of_player = [[each[place] for each in played] for place in range(len(masks))]
    return list(zip(_effects(lost, scheme), _effects(of_player, scheme), strict=True))


def _controls(
    correct: Sequence[Mapping[str, Floats]], game: FamilyGame, scheme: ResamplingScheme
) -> tuple[Row, ...]:
    """Return the rows of the controls. Each is a hypothesis of its own: Holm would hide one that fails."""
    found = []
    for name in CONTROLS:
        all_ = game.whole
        lost = [each[f"control/{name}/{all_}/here"] - each[f"control/{name}/{all_}/gone"] for each in correct]
        share = [control_share(each, game, name) for each in correct]
        first = game.families.families[0]
        is_noise = name == "noise"
        shown, columns = (name, NOISE_COLUMNS) if is_noise else (f"{name} {first.name}", len(first.columns))
        effects = [_effects([differences], scheme)[0] for differences in (lost, share)]
        found.append(Row(name=shown, columns=columns, alone=None, lost=effects[0], share=effects[1]))
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


def _lost_by(keys: Sequence[str], correct: Sequence[Mapping[str, Floats]], game: Game) -> tuple[float, ...]:
    full = [each[game.first] for each in correct]
    return tuple(_mean([one - each[key] for one, each in zip(full, correct, strict=True)]) for key in keys)


def _recalls(
    repeats: Sequence[RepeatAnswers], trainings: Sequence[Sequence[str]], classes: int
) -> NDArray[np.float64]:
    """Return the recall of each class over all repeats: float [rows, classes]. A row's keys differ by seed."""
    truth = np.concatenate([repeat.truth for repeat in repeats])
    found = np.full((len(trainings), classes), np.nan)
    for row, keys in zip(found, trainings, strict=True):
        guesses = [np.concatenate([repeat.guesses[key] for repeat in repeats]) for key in keys]
        right = np.mean([each == truth for each in guesses], axis=0)
        for genre in range(classes):
            if (truth == genre).any():
                row[genre] = right[truth == genre].mean()
    return found
