"""The list of studies, rows and results of trials, parameter importances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.files import sqlite_path
from harness.core.halving import HALVING_KEY, Halving
from harness.core.objective import ACCURACY, Objective
from harness.core.ranking import rank
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import EpochMetrics, TrialCounts, TrialResult, TrialRow
from harness.core.space import Params
from harness.study.attributes import CONTEXT_KEY, RESULT_KEY, StudyFault, read_attributes, recorded_folds
from harness.study.leases import Leases
from harness.study.queries import (
    BestTrial,
    StudyRow,
    TrialSummary,
    best_trials,
    read_studies,
    summarise_trials,
)
from harness.study.storage import HasEngine

# Measured: of 12 trials of pure noise one of two parameters gets a share of 0.24 to 0.54.
ENOUGH_TRIALS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOverview:
    """One study in `harness status`; `n_trials` is the target of its last sweep, None before the first.

    `fault` says why the study cannot be used; such a study has neither model nor experiment nor identity.
    `part_of` is the study whose best setting this one trains or confirms, None for a search. `best` and
    `best_params` are those of the trial that a confirmation chose, if trials have not finished since.
    """

    name: str
    model: str | None
    experiment: str | None
    identity: str | None
    n_trials: int | None
    counts: TrialCounts
    best: float | None
    best_params: Params
    last_touched: datetime | None
    fault: StudyFault | None = None
    part_of: str | None = None
    objective: Objective = ACCURACY

    @property
    def is_finished(self) -> bool:
        """Whether the study has its target number of finished trials and at least one complete trial."""
        return self.best is not None and self.n_trials is not None and self.counts.finished >= self.n_trials


def list_studies(storage: HasEngine) -> list[StudyOverview]:
    """Return all studies of this storage, the last used first; nothing is locked or written.

    A study that the harness did not make, or whose record is damaged, has a `fault`.
    """
    studies, summaries, best = read_studies(storage), summarise_trials(storage), best_trials(storage)
    none = TrialSummary(counts=TrialCounts(), last_touched=None)
    found = [_overview(row, summaries.get(key, none), best.get(key)) for key, row in studies.items()]
    return sorted(found, key=lambda o: (o.last_touched is not None, o.last_touched), reverse=True)


def _overview(row: StudyRow, trials: TrialSummary, best: BestTrial | None) -> StudyOverview:
    record = read_attributes(row.name, row.attributes, row.objectives)
    if not isinstance(record, StudyFault) and best is not None and best.params is None:
        record = StudyFault.DAMAGED
    if isinstance(record, StudyFault):
        return StudyOverview(
            name=row.name,
            model=None,
            experiment=None,
            identity=None,
            n_trials=None,
            counts=trials.counts,
            best=None,
            best_params={},
            last_touched=trials.last_touched,
            fault=record,
        )
    value, params = (None, None) if best is None else (best.value, best.params)
    confirmation = record.confirmation
    if confirmation is not None and confirmation.finished == trials.counts.finished:
        value, params = confirmation.chosen.val_accuracy, dict(confirmation.chosen.params)
    return StudyOverview(
        name=row.name,
        model=record.spec.model,
        experiment=record.context.experiment,
        identity=record.context.identity,
        n_trials=None if record.targets is None else record.targets.n_trials,
        counts=trials.counts,
        best=value,
        best_params=params or {},
        last_touched=trials.last_touched,
        part_of=record.spec.part_of,
        objective=record.spec.objective,
    )


def read_identity(storage: RDBStorage, name: str) -> str | None:
    """Return the identity of an existing study, None if it has none that can be read (it has no runs then)."""
    study_id = storage.get_study_id_from_name(name)
    context = read_studies(storage, study_id)[study_id].attributes.get(CONTEXT_KEY)
    found = context.get("identity") if isinstance(context, dict) else None
    return found if isinstance(found, str) else None


def delete_study(storage: RDBStorage, name: str) -> bool:
    """Delete a study and its leases from the storage; return False if there is no study of that name."""
    try:
        optuna.delete_study(study_name=name, storage=storage)
    except KeyError:
        return False
    if sqlite_path(str(storage.engine.url)) is None:
        Leases(storage.engine, name, place="").delete()
    return True


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
    study: optuna.Study, complete: Sequence[TrialRow], objective: Objective = ACCURACY
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
