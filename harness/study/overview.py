"""Queries: the list of studies, counts and rows of trials, parameter importances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.files import sqlite_path
from harness.core.records import EpochMetrics, TrialCounts, TrialResult, TrialRow
from harness.core.space import Params
from harness.study.leases import Leases

# User attributes of studies and of trials.
SPEC_KEY, CONTEXT_KEY, TARGETS_KEY = "spec", "context", "targets"
RESULT_KEY, DEATHS_KEY = "result", "deaths"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOverview:
    """One study in `harness status`; `n_trials` is the target of its last sweep, None before the first."""

    name: str
    model: str
    experiment: str | None
    n_trials: int | None
    counts: TrialCounts
    best: float | None
    best_params: Params
    last_touched: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether the study has its target number of finished trials and at least one complete trial."""
        return self.best is not None and self.n_trials is not None and self.counts.finished >= self.n_trials


def list_studies(storage: RDBStorage) -> list[StudyOverview]:
    """Return the studies of this storage that the harness made, the last used first."""
    overviews = []
    for summary in optuna.get_all_study_summaries(storage):
        spec = summary.user_attrs.get(SPEC_KEY)
        if spec is None:
            continue
        trials = optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False)
        times = [time for trial in trials for time in (trial.datetime_start, trial.datetime_complete) if time]
        complete = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
        best = max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)
        overviews.append(
            StudyOverview(
                name=summary.study_name,
                model=spec["model"],
                experiment=summary.user_attrs.get(CONTEXT_KEY, {}).get("experiment"),
                n_trials=summary.user_attrs.get(TARGETS_KEY, {}).get("n_trials"),
                counts=count_trials(trials),
                best=None if best is None else best.value,
                best_params={} if best is None else dict(best.params),
                last_touched=max(times, default=None),
            )
        )
    return sorted(overviews, key=lambda o: (o.last_touched is not None, o.last_touched), reverse=True)


def read_identity(storage: RDBStorage, name: str) -> str | None:
    """Return the identity of an existing study, None if its creation was interrupted (it has no runs then)."""
    context = optuna.load_study(study_name=name, storage=storage).user_attrs.get(CONTEXT_KEY, {})
    return None if (found := context.get("identity")) is None else str(found)


def delete_study(storage: RDBStorage, name: str) -> bool:
    """Delete a study and its leases from the storage; return False if there is no study of that name."""
    try:
        optuna.delete_study(study_name=name, storage=storage)
    except KeyError:
        return False
    if sqlite_path(str(storage.engine.url)) is None:
        Leases(storage.engine, name, place="").delete()
    return True


def count_trials(trials: list[FrozenTrial]) -> TrialCounts:
    """Return the number of trials in each state."""
    states = [trial.state for trial in trials]
    return TrialCounts(
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        waiting=states.count(TrialState.WAITING),
    )


def trial_result(trial: FrozenTrial) -> TrialResult:
    """Return the result of a trial that has ended. For FAIL it does not say whether it diverged or crashed."""
    result = trial.user_attrs.get(RESULT_KEY) or {}
    states: dict[TrialState, Literal["complete", "pruned", "failed"]]
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    best = None if result.get("best") is None else EpochMetrics(**result["best"])
    return TrialResult(state=states[trial.state], best=best, reason=result.get("reason"))


def trial_row(trial: FrozenTrial) -> TrialRow:
    """Return the row of a trial."""
    result = trial.user_attrs.get(RESULT_KEY) or {}
    best = result.get("best") or {}
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        params=dict(trial.params),
        val_accuracy=best.get("val_accuracy"),
        val_loss=best.get("val_loss"),
        best_epoch=best.get("epoch"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reason=result.get("reason"),
    )


def parameter_importances(study: optuna.Study, complete: Sequence[TrialRow]) -> dict[str, float]:
    """Return each parameter's share of the accuracy's variance (fANOVA) over the complete trials of a study.

    The result is empty if all accuracies or all parameters are equal. The seed is fixed.
    Source: Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance, as
    Optuna implements it.
    """
    accuracies = {row.val_accuracy for row in complete}
    if len(accuracies) < 2 or len({tuple(row.params.items()) for row in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
