"""What a search looks for: a figure of an epoch, and whether less of it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

PREFIX = "val_"  # of every figure that is measured on the validation part
ACCURACY_NAME, LOSS_NAME = "val_accuracy", "val_loss"
DIRECTIONS = ("minimise", "maximise")


class HasFigures(Protocol):
    """An epoch, or the row of a trial: what a network was measured by."""

    @property
    def val_accuracy(self) -> float | None:
        """Validation accuracy, of classifiers."""

    @property
    def val_loss(self) -> float | None:
        """Validation loss."""

    @property
    def own(self) -> Mapping[str, float]:
        """The metrics that a model with a loss of its own declares, by their names in the record."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The figure that a search looks for: validation accuracy, unless a model with a loss of its own says else."""

    name: str = ACCURACY_NAME
    minimise: bool = False

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the accuracy of a classifier: what comparisons, folds and test parts are about."""
        return self.name == ACCURACY_NAME

    @property
    def label(self) -> str:
        """The name in sentences and pictures."""
        return f"validation {self.name.removeprefix(PREFIX)}"

    @property
    def best_name(self) -> str:
        """The name of the best value among a run's metrics."""
        return f"best_{self.name}"

    def __str__(self) -> str:
        return f"{self.name}, {DIRECTIONS[not self.minimise]}"

    @classmethod
    def of_text(cls, text: str | None) -> Objective:
        """Return the objective that `str` has made, and validation accuracy for None or any other text."""
        name, _, direction = (text or "").partition(", ")
        return cls(name, direction == DIRECTIONS[0]) if name and direction in DIRECTIONS else ACCURACY

    def of(self, found: HasFigures) -> float | None:
        """Return the value of an epoch or a trial, None if it has none."""
        if self.name in (ACCURACY_NAME, LOSS_NAME):
            value: float | None = getattr(found, self.name)
            return value
        return found.own.get(self.name)

    def order(self, value: float | None) -> float:
        """Return the key that sorts values, the best first; None and what is not finite come last."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.minimise else -value

    def best(self, values: Iterable[float | None]) -> float | None:
        """Return the best of these values, None if there is none."""
        return min(values, key=self.order, default=None)


ACCURACY = Objective()


def number_text(value: float | None) -> str:
    """Return a figure as text: three places below 100, five digits above."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.5g}"
