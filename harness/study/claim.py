"""One trial in the hands of a worker: how it is sampled and judged, and how its end is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import optuna
from optuna.trial import TrialState

from harness.core.records import EpochMetrics, TrialResult
from harness.core.space import Params
from harness.study.locks import TrialLock
from harness.study.overview import RESULT_KEY


@dataclass(slots=True)
class Claim:
    """A trial that this process, and no other, is to run: its number and parameters.

    `resumed` says that somebody has begun it before, `moved` that it was somebody on another machine.
    """

    number: int
    params: Params
    resumed: bool
    moved: bool
    _study: optuna.Study
    _trial: optuna.Trial
    _lock: TrialLock
    _last_step: int
    _first_epoch: int | None

    @property
    def is_lost(self) -> bool:
        """Whether the trial is, or may be, another's by now: nothing may be written about it any more."""
        return self._lock.is_lost

    def report(self, metrics: EpochMetrics) -> bool:
        """Report an epoch's accuracy and return False where the pruner would end the trial here.

        Epochs that an earlier attempt has reported are neither reported nor judged again: the pruner looks
        at the largest step, which such an epoch has yet to reach.
        """
        if self._first_epoch is None:
            return True
        if self.is_lost:
            return True  # whoever has the trial now reports; the next batch does not begin
        if metrics.epoch > self._last_step:
            self._trial.report(metrics.val_accuracy, metrics.epoch)
        if metrics.epoch < max(self._last_step, self._first_epoch):  # asking the pruner reads the study's trials
            return True
        return not self._trial.should_prune()

    def finish(self, result: TrialResult) -> bool:
        """Tell the study how the trial ended: COMPLETE with its best accuracy, PRUNED, FAIL, or WAITING again.

        Return False, and tell nothing, where the trial is another's by now.
        """
        if not self._lock.secure():
            self._lock.release()
            return False
        if result.state == "interrupted":
            self._study._storage.set_trial_state_values(self._trial._trial_id, TrialState.WAITING)
        else:
            best = None if result.best is None else asdict(result.best)
            self._trial.set_user_attr(RESULT_KEY, {"best": best, "reason": result.reason})
            if result.state == "complete":
                assert result.best is not None
                self._study.tell(self._trial, result.best.val_accuracy)
            else:
                state = TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL
                self._study.tell(self._trial, state=state)
        self._lock.release()
        return True

    def leave(self) -> None:
        """Let go of the trial as it is, for the sweep that this process belongs to, to give it back."""
        self._lock.leave()

    def abandon(self) -> None:
        """Let go of a trial that is lost: whoever comes next takes it once its lease has run out."""
        self._lock.release()
