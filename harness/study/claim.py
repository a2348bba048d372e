"""A claimed trial: its parameters, reports to the pruner, and its result in Optuna."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import optuna
from optuna.trial import TrialState

from harness.core.halving import HALVING, HALVING_KEY, Halving, Until
from harness.core.objective import Objective
from harness.core.records import EpochMetrics, TrialResult
from harness.core.space import Params
from harness.study.attributes import RESULT_KEY, recorded_folds
from harness.study.locks import TrialLock

FOLDS_BEFORE_PRUNING = 2  # the first folds of a trial after which it may be ended


@dataclass(slots=True)
class Claim:
    """A trial that this process, and no other, runs: its number and parameters.

    `resumed` is True if an earlier attempt began the trial, `moved` if that attempt ran on another machine.
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
    _pruner: str
    _objective: Objective
    _rungs: tuple[int, ...]  # of a study with successive halving
    _halving: Halving

    @property
    def until(self) -> Until | None:
        """Where the training stops before its end, None if it does not."""
        return self._halving.until(self._rungs) if self._rungs else None

    def has_paused(self, result: TrialResult) -> bool:
        """Whether a result on record is the pause to which the trial was to train, not yet noted by the study."""
        until = self.until
        return until is not None and until.reason is None and result.rung == until.rung

    @property
    def is_lost(self) -> bool:
        """Whether another process has, or may have, taken the trial: nothing more may be written about it."""
        return self._lock.is_lost

    @property
    def judges(self) -> bool:
        """Whether a pruner may end the trial."""
        return self._pruner not in ("none", HALVING)

    def report(self, metrics: EpochMetrics) -> str | None:
        """Report an epoch's value to the pruner; return the reason if the trial is to be pruned.

        An epoch that an earlier attempt reported is not reported again, and the pruner is not called for it: the
        pruner judges the largest reported epoch, which this attempt has not reached yet.
        """
        if self._first_epoch is None:
            return None
        if self.is_lost:
            return None  # another process reports; training stops before the next batch
        if metrics.epoch > self._last_step:
            value = self._objective.of(metrics)
            assert value is not None  # a refit has no pruner
            self._trial.report(value, metrics.epoch)
        if metrics.epoch < max(self._last_step, self._first_epoch):  # each call of the pruner reads all trials
            return None
        return f"{self._pruner} pruner, epoch {metrics.epoch}" if self._trial.should_prune() else None

    def report_fold(self, fold: int, accuracy: float, mean: float, step: int) -> str | None:
        """Report the end of a fold; return the reason if the trial is to be pruned.

        `accuracy` is the fold's own best, `mean` the best value of the mean curve so far, `step` the number of
        epochs that so many folds have at most. The Wilcoxon pruner compares the folds of this trial with those
        of the best one. With any other pruner a trial ends after two folds or more whose mean lies below the worst
        fold of the best trial: a rule that seldom ends a good trial.
        Source: Bergman, Purucker and Hutter (2024), Don't waste your time: early stopping cross-validation.
        """
        if not self.judges or self.is_lost:
            return None
        if self._pruner == "wilcoxon":
            if fold > self._last_step:
                self._trial.report(accuracy, fold)
            return f"wilcoxon pruner, fold {fold}" if self._trial.should_prune() else None
        if fold > 1 and step > self._last_step:  # the first fold has reported its epochs
            self._trial.report(mean, step)
        worst = self._worst_fold_of_best() if fold >= FOLDS_BEFORE_PRUNING else None
        if worst is None or mean >= worst:
            return None
        return f"mean of {fold} folds {mean:.3f}, below the worst fold of the best trial ({worst:.3f})"

    def _worst_fold_of_best(self) -> float | None:
        """Return the accuracy of the worst fold of the best complete trial, None if there is no such trial."""
        states = (TrialState.COMPLETE,)
        complete = self._study.get_trials(deepcopy=False, states=states)
        best = max((trial.value or 0.0 for trial in complete), default=None)
        # Of several best trials the one with the worst fold: a tie ends fewer trials.
        worst = (min(recorded_folds(trial), default=0.0) for trial in complete if (trial.value or 0.0) == best)
        return min(worst, default=None)

    def finish(self, result: TrialResult) -> bool:
        """Store the trial's result in Optuna: COMPLETE with its best value, PRUNED, FAIL, or WAITING to go on.

        Return False and store nothing if another process has taken the trial. The trial lock is released.
        """
        if not self._lock.secure():
            self._lock.release()
            return False
        if not result.is_over:
            self._note(result)
            self._study._storage.set_trial_state_values(self._trial._trial_id, TrialState.WAITING)
        else:
            self._store(result)
            if result.state == "complete":
                assert result.best is not None
                # A trial with a short schedule counts at the later rungs too.
                self._reach(result.best, len(self._rungs))
                value = self._objective.of(result.best)
                # A refit has no validation part. Optuna wants a value, which nothing reads.
                self._study.tell(self._trial, -result.best.train_loss if value is None else value)
            else:
                state = TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL
                self._study.tell(self._trial, state=state)
        self._lock.release()
        return True

    def hand_over(self, result: TrialResult) -> None:
        """Release the lock of a trial that was interrupted or pauses; store its rung, unless another has taken it.

        The trial stays RUNNING until `Study.requeue_sent`.
        """
        if self._lock.secure():
            self._note(result)
            self._lock.hand_over()
        else:
            self._lock.release()

    def _note(self, result: TrialResult) -> None:
        if result.state == "paused":
            assert result.best is not None
            assert result.rung is not None
            self._store(result)
            started = self._trial.datetime_start or datetime.now()
            self._reach(result.best, result.rung, (datetime.now() - started).total_seconds())

    def _store(self, result: TrialResult) -> None:
        best = None if result.best is None else asdict(result.best)
        self._trial.set_user_attr(RESULT_KEY, {"best": best, "reason": result.reason, "folds": result.folds})

    def _reach(self, best: EpochMetrics, rung: int, seconds: float = 0.0) -> None:
        """Store the trial's best value as its score at a rung, and at those before it that have none."""
        value = self._objective.of(best)
        found = self._halving.reaching(rung, (value, best.val_loss), seconds)
        if found.reached == self._halving.reached:
            return
        assert value is not None  # a refit is not halved
        self._trial.report(value, self._rungs[rung - 1])  # samplers learn from it
        self._trial.set_user_attr(HALVING_KEY, found.as_json())  # last: it makes the trial one that pauses
        self._halving = found

    def leave(self) -> None:
        """Release the trial lock but keep its note, so that the sweep of this process requeues the trial."""
        self._lock.leave()

    def abandon(self) -> None:
        """Release the lock of a lost trial. Another process takes the trial when its lease has expired."""
        self._lock.release()
