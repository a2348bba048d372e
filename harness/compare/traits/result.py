"""The results of traits: effects, rows of families, sentences, and the JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.compare.traits.game import Game
from harness.compare.traits.occlusion import OcclusionMap
from harness.compare.verdict import show_p
from harness.core.json_types import JsonObject
from harness.core.stats import Estimate
from harness.data import MUSIC, Words

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

    @property
    def shown(self) -> tuple[str, str, str]:
        """The effect and the ends of its interval in points; an end next to zero gets a second digit."""
        digits = 1 if round(100 * self.low, 1) and round(100 * self.high, 1) else 2
        return f"{100 * self.value:z.1f}", f"{100 * self.low:z.{digits}f}", f"{100 * self.high:z.{digits}f}"

    def __str__(self) -> str:
        """Return the effect in points with its interval."""
        value, low, high = self.shown
        return f"{value} points, {low} to {high}"

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
class Row:
    """What is found of one family, of several merged ones, or of a region of pictures.

    `alone` is the accuracy of it alone; None for merged families and for controls. `lost` is what the accuracy of
    the whole input loses without it, `share` its Shapley share; None for regions, which have none. `columns` is
    the number of a family's columns.
    """

    name: str
    columns: int | None
    alone: Estimate | None
    lost: Effect
    share: Effect | None

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What is lost, and the share if there is one."""
        return (self.lost,) if self.share is None else (self.lost, self.share)

    def sentence(self, whole: float) -> str:
        """Return what is found, in words; `whole` is the sum of all shares."""
        if not any(effect.sign for effect in self.effects):
            what = "masked it loses" if self.share is None else "share"
            text = f"{self.name}: no effect shown beside the others ({what} {self.effects[-1]})"
        elif self.share is None:
            text = f"{self.name}: masked it loses {self.lost}"
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
        return {
            "name": self.name,
            "columns": self.columns,
            "alone": None if self.alone is None else accuracy_as_json(self.alone),
            "lost": self.lost.as_json(),
            "share": None if self.share is None else self.share.as_json(),
        }


def accuracy_as_json(accuracy: Estimate) -> JsonObject:
    """Return an accuracy with its interval as a JSON-able mapping."""
    return {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnerResult:
    """What one learner finds. `whole` and `none` are its accuracies with the whole input, and with nothing of it.

    `rows` are those of the families or regions, `merged` those of the coarser grouping of families. `ahead` has
    for each pair of families the difference of their shares. `uses` and `given` are what the trained network loses
    where a family or region of the test tracks is permuted, and permuted given the other columns (families only):
    they describe this network, not the data. `recalls` are the recalls of each class: with all, without and alone,
    float [rows, classes].
    """

    name: str
    whole: Estimate
    none: float
    rows: tuple[Row, ...]
    merged: tuple[Row, ...]
    controls: tuple[Row, ...]
    apart: Mapping[str, Estimate]
    ahead: Mapping[tuple[str, str], Effect]
    uses: tuple[float, ...]
    given: tuple[float, ...]
    recalls: Mapping[str, NDArray[np.float64]]

    @property
    def total(self) -> float:
        """The accuracy of all families less that of none: what the shares sum to."""
        return self.whole.value - self.none

    @property
    def coarse(self) -> tuple[Row, ...]:
        """The merged families; the others of the coarser grouping are as they were, with other shares."""
        known = {row.name for row in self.rows}
        return tuple(row for row in self.merged if row.name not in known)

    @property
    def ties(self) -> list[tuple[str, str]]:
        """The neighbours in the order of the shares whose difference is not shown, the largest share first."""
        ordered = [row.name for row in sorted(self.rows, key=lambda row: -row.effects[-1].value)]
        apart = {frozenset(pair) for pair, effect in self.ahead.items() if effect.sign}
        return [pair for pair in pairwise(ordered) if self.ahead and frozenset(pair) not in apart]

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping."""
        return {
            "learner": self.name,
            "accuracy": accuracy_as_json(self.whole),
            "nothing": self.none,
            "rows": [
                {**row.as_json(), "network_uses": uses, "network_uses_given_the_others": given}
                for row, uses, given in zip(
                    self.rows, self.uses, self.given or [None] * len(self.rows), strict=True
                )
            ],
            "merged": [row.as_json() for row in self.merged],
            "controls": [row.as_json() for row in self.controls],
            "apart": {name: accuracy_as_json(estimate) for name, estimate in self.apart.items()},
            "differences_of_shares": [{"names": list(pair), **e.as_json()} for pair, e in self.ahead.items()],
            "recall": {name: np.round(values, 6).tolist() for name, values in self.recalls.items()},
        }


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
    maps: tuple[OcclusionMap, ...] = ()
    words: Words = MUSIC

    @property
    def robust(self) -> dict[str, dict[str, int]]:
        """The rows whose effect all learners show to be above zero (1) or below (-1).

        By the kind of effect: `lost`, and of families `share`. Empty with one learner, which agrees with itself.
        """
        if len(self.learners) == 1:
            return {}
        found = {}
        for kind in ("lost", "share"):
            effects = [
                [effect for row in learner.rows if (effect := getattr(row, kind)) is not None]
                for learner in self.learners
            ]
            signs = {
                name: {effect.sign for effect in each}
                for name, each in zip(self.game.names, zip(*effects, strict=True), strict=False)
            }
            found[kind] = {name: sign for name, (sign, *others) in signs.items() if sign and not others}
        return found

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the first learner finds of each row, the largest effect first, and where the others agree."""
        first = self.learners[0]
        ordered = sorted(first.rows, key=lambda row: -row.effects[-1].value)
        lines = [
            f"{first.name}: accuracy {first.whole.value:.2f} with all {self.game.players}, "
            f"{first.none:.2f} with none of them",
            *(row.sentence(first.total) for row in ordered),
        ]
        if first.ties:
            ties = "; ".join(" / ".join(pair) for pair in first.ties)
            lines.append(f"which of two neighbours has the larger share is not shown for: {ties}")
        whats = {"lost": "what is lost without", "share": "the share of"}
        for kind, signs in self.robust.items():
            agreed = ", ".join(signs) or "none"
            lines.append(f"all {len(self.learners)} learners agree on the sign of {whats[kind]}: {agreed}")
        return tuple(lines)

    @property
    def failed_controls(self) -> tuple[str, ...]:
        """A sentence for each control that shows an effect, which it must not."""
        return tuple(
            f"the control {row.name} shows an effect with {learner.name} ({what} {effect}, {show_p(effect.p)}): "
            "of controls that hold nothing one in twenty does by chance"
            for learner in self.learners
            for row in learner.controls
            for what, effect in zip(("without it", "share"), row.effects, strict=False)
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
            **self.game.as_json(),
            "learners": [learner.as_json() for learner in self.learners],
            "robust": self.robust,
            "sentences": list(self.sentences),
            "warnings": list(self.warnings),
            "run_id": self.run_id,
        }
