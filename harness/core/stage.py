"""A stage of a sweep, as it is shown while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.objective import ACCURACY, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """So many trainings under a title: the search, the confirmation or the refit.

    `done` have ended before, `best` is the best value of these, None for none. Each training trains on `folds`.
    `pauses`: the trainings pause, so that the rate at which they end says little of the time left.
    """

    title: str
    total: int
    done: int = 0
    best: float | None = None
    folds: int = 1
    pauses: bool = False
    objective: Objective = ACCURACY
