"""The rule that ends a training run whose workers die: so many deaths in a row without a new epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.events import EpochDone, Event, RepeatStarted, TrialStarted

ATTEMPTS = 3  # deaths in a row without a new epoch after which a training run is given up, by default


@dataclass(frozen=True, slots=True)
class Deaths:
    """Deaths of the workers of one training run: how many in a row since its last new epoch, and which that was.

    A new epoch is one that was never on record before.
    """

    count: int = 0
    epoch: int = 0

    def add(self, new_epoch: int) -> Deaths:
        """Add a death; `new_epoch` is the last new epoch of the attempt that ended so, 0 for none."""
        return Deaths(0, new_epoch) if new_epoch > self.epoch else Deaths(self.count + 1, self.epoch)

    def reason(self, cause: str) -> str:
        """Return why the training run is given up; `cause` is how the last worker died."""
        return f"its worker died {self.count} times in a row without a new epoch, the last time {cause}"


def last_new_epoch(events: Sequence[Event]) -> int:
    """Return the last epoch that the last attempt in a journal was the first to reach, 0 for none."""
    epoch = 0
    for event in events:
        match event:
            case TrialStarted() | RepeatStarted():
                epoch = 0
            case EpochDone():
                epoch = event.metrics.epoch
    return epoch
