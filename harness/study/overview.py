"""Rows and results of trials, parameter importances, and what identifies and deletes a study."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.files import sqlite_path
from harness.core.halving import HALVING_KEY, Halving
from harness.core.objective import ACCURACY, Objective
from harness.core.ranking import rank
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import EpochMetrics, TrialResult
from harness.core.trial_rows import TrialRow
from harness.study.attributes import CONTEXT_KEY, RESULT_KEY, recorded_folds
from harness.study.leases import Leases
from harness.study.tables import read_studies

# Measured: of 12 trials of pure noise one of two parameters gets a share of 0.24 to 0.54.
ENOUGH_TRIALS = 30


def read_identity(storage: RDBStorage, name: str) -> str | None:
    """Return the identity of an existing study, None if it has none that can be read (it has no runs then)."""
    study_id = storage.get_study_id_from_name(name)
    context = read_studies(storage, study_id)[study_id].attributes.get(CONTEXT_KEY)
    found = context.get("identity") if isinstance(context, dict) else None
    return found if isinstance(found, str) else None


def delete_study(storage: RDBStorage, name: str) -> None:
    """Delete a study and its leases from the storage; a study that is not there is no error."""
    with suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)
    if sqlite_path(str(storage.engine.url)) is None:
        Leases(storage.engine, name, place="").delete()


def trial_result(trial: FrozenTrial) -> TrialResult:
    """Return the result of a trial that has ended. For FAIL it does not say whether it diverged or crashed."""
    states: dict[TrialState, Literal["complete", "pruned", "failed"]]
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    best, reason = _recorded_end(trial)
    return TrialResult(state=states[trial.state], best=best, reason=reason, folds=recorded_folds(trial))


def trial_row(trial: FrozenTrial) -> TrialRow:
    """Return the row of a trial."""
    best, reason = _recorded_end(trial)
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        params=dict(trial.params),
        val_accuracy=None if best is None else best.val_accuracy,
        val_loss=None if best is None else best.val_loss,
        best_epoch=None if best is None else best.epoch,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reason=None if trial.state == TrialState.RUNNING else reason,  # after a pause, that of the pause
        folds=recorded_folds(trial),
        own={} if best is None else best.own,
        paused_seconds=Halving.of(trial.user_attrs.get(HALVING_KEY)).seconds,
    )


def _recorded_end(trial: FrozenTrial) -> tuple[EpochMetrics | None, str | None]:
    """Return the best epoch of a trial and the reason of its end; None for what it has not, or what is damaged."""
    try:
        result = trial.user_attrs[RESULT_KEY]
        best, reason = result["best"], result.get("reason")
        metrics = None if best is None else checked(EpochMetrics(**best))
    except UNREADABLE:
        return None, None
    return metrics, reason if isinstance(reason, str) else None


def ranked(rows: Sequence[TrialRow], objective: Objective = ACCURACY) -> list[TrialRow]:
    """Return the complete trials, the best value first; ties by validation loss, then number."""
    complete = [row for row in rows if row.state == "COMPLETE"]
    return sorted(complete, key=lambda row: rank(objective.of(row), row.val_loss, row.number, objective))


def parameter_importances(
    study: optuna.Study, complete: Sequence[TrialRow], objective: Objective
) -> dict[str, float]:
    """Return each parameter's share of the value's variance (fANOVA) over the complete trials of a study.

    The result is empty for fewer than ENOUGH_TRIALS trials, and if all values or all parameters are equal. The
    seed is fixed.
    Source: Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance, as
    Optuna implements it.
    """
    if len(complete) < ENOUGH_TRIALS:
        return {}
    if (
        len({objective.of(row) for row in complete}) < 2
        or len({tuple(row.params.items()) for row in complete}) < 2
    ):
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
