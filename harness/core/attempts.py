"""The rule that gives a training run up: its workers died N times in a row without a new epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.events import EpochDone, Event, FoldEpochDone, RepeatStarted, SubsetTrained, TrialStarted

ATTEMPTS = 3  # the default N


@dataclass(frozen=True, slots=True)
class Deaths:
    """Deaths of the workers of one training run.

    `count` is the number of deaths in a row since the last new epoch, `epoch` the number of that epoch. A new
    epoch is one that no earlier attempt recorded.
    """

    count: int = 0
    epoch: int = 0

    def add(self, new_epoch: int) -> Deaths:
        """Return the deaths including one more; `new_epoch` is the last new epoch before it, 0 for none."""
        return Deaths(0, new_epoch) if new_epoch > self.epoch else Deaths(self.count + 1, self.epoch)

    def reason(self, cause: str) -> str:
        """Return the reason for giving the training run up; `cause` says how the last worker died."""
        return f"its worker died {self.count} times in a row without a new epoch, the last time {cause}"


def last_new_epoch(events: Sequence[Event]) -> int:
    """Return the last new epoch of the last attempt in a journal, 0 for none.

    The epochs of a trial with several folds, and of an ensemble, are counted through: those of the second fold or
    member follow the first's. A training of the traits counts as one.
    """
    epoch = length = 0
    subsets = sum(isinstance(event, SubsetTrained) for event in events)
    for event in events:
        match event:
            case TrialStarted(config=config):
                epoch, length = 0, config.epochs
            case RepeatStarted(config=config):
                epoch, length = 0, 0 if config is None else config.epochs
            case FoldEpochDone(fold=fold, metrics=metrics):
                epoch = (fold - 1) * length + metrics.epoch
            case EpochDone(metrics=metrics):
                epoch = max(epoch, metrics.epoch)
    return epoch + subsets
