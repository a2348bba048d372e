"""A claimed trial: its parameters, reports to the pruner, and its result in Optuna."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import optuna
from optuna.trial import TrialState

from harness.core.records import EpochMetrics, TrialResult
from harness.core.space import Choice, Params, Range, Space, Value
from harness.study.attributes import RESULT_KEY
from harness.study.locks import TrialLock


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

    @property
    def is_lost(self) -> bool:
        """Whether another process has, or may have, taken the trial: nothing more may be written about it."""
        return self._lock.is_lost

    def report(self, metrics: EpochMetrics) -> bool:
        """Report an epoch's accuracy to the pruner; return False if the trial is to be pruned.

        An epoch that an earlier attempt reported is not reported again, and the pruner is not called for it: the
        pruner judges the largest reported epoch, which this attempt has not reached yet.
        """
        if self._first_epoch is None:
            return True
        if self.is_lost:
            return True  # another process reports; training stops before the next batch
        if metrics.epoch > self._last_step:
            self._trial.report(metrics.val_accuracy, metrics.epoch)
        if metrics.epoch < max(self._last_step, self._first_epoch):  # each call of the pruner reads all trials
            return True
        return not self._trial.should_prune()

    def finish(self, result: TrialResult) -> bool:
        """Store the trial's result in Optuna: COMPLETE with its best accuracy, PRUNED, FAIL, or WAITING again.

        Return False and store nothing if another process has taken the trial. The trial lock is released.
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
        """Release the trial lock but keep its note, so that the sweep of this process requeues the trial."""
        self._lock.leave()

    def abandon(self) -> None:
        """Release the lock of a lost trial. Another process takes the trial when its lease has expired."""
        self._lock.release()


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    """Return a value from the sampler for each parameter that the trial uses.

    The space is resolved: a conditional parameter comes after the parameter of its condition.
    """
    params: dict[str, Value] = {}
    for name, distribution in space.items():
        if distribution.when is not None and not distribution.when.holds(params):
            continue
        match distribution:
            case Range(low=low, high=high, log=log, integer=True):
                params[name] = trial.suggest_int(name, round(low), round(high), log=log)
            case Range(low=low, high=high, log=log):
                params[name] = trial.suggest_float(name, low, high, log=log)
            case Choice(values=values):
                params[name] = cast(Value, trial.suggest_categorical(name, values))
    return params
