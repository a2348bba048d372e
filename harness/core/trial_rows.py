"""The trials of a study as Optuna has them: how many in each state, and a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import stdev

from harness.core.space import Params

FINISHED_STATES = ("COMPLETE", "PRUNED")  # of Optuna, in which a trial has trained to an end
ENDED_STATES = (*FINISHED_STATES, "FAIL")  # of Optuna, in which a trial is not run again


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCounts:
    """The number of trials of a study in each state."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def finished(self) -> int:
        """The number of complete and pruned trials, which `--trials` limits."""
        return self.complete + self.pruned

    @property
    def total(self) -> int:
        """The number of all trials."""
        return self.finished + self.failed + self.running + self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial as Optuna has it. Times are local; `paused_seconds` is the wall time up to its last pause.

    Attempts that were cut short count in neither time.
    `folds` has the validation accuracy of each fold at the best epoch; it is empty for one validation part.
    """

    number: int
    state: str
    params: Params
    val_accuracy: float | None
    val_loss: float | None
    best_epoch: int | None
    started: datetime | None
    ended: datetime | None
    reason: str | None
    folds: tuple[float, ...] = ()
    own: Mapping[str, float] = field(default_factory=dict)
    paused_seconds: float = 0.0

    @property
    def val_accuracy_std(self) -> float | None:
        """Standard deviation of the validation accuracy over the folds, None for fewer than two."""
        return stdev(self.folds) if len(self.folds) > 1 else None

    @property
    def std_error(self) -> float | None:
        """Standard error of the validation accuracy over the folds, None for fewer than two."""
        return None if self.val_accuracy_std is None else self.val_accuracy_std / len(self.folds) ** 0.5

    @property
    def is_ended(self) -> bool:
        """Whether the trial has ended, with whatever result."""
        return self.state in ENDED_STATES

    @property
    def seconds(self) -> float | None:
        """Wall time up to the last pause and from the last start to the end, None before the end."""
        if self.started is None or self.ended is None:
            return None
        return self.paused_seconds + (self.ended - self.started).total_seconds()
