"""Trials and studies as they are shown: counts, rows, the list of studies."""

from __future__ import annotations

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
SPEC_KEY, CONTEXT_KEY, TARGETS_KEY = "spec", "context", "asked"
RESULT_KEY, DEATHS_KEY = "result", "deaths"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOverview:
    """A line of `harness status`."""

    name: str
    model: str
    experiment: str | None
    asked: int | None
    counts: TrialCounts
    best: float | None
    best_params: Params
    last_touched: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether the study holds what was asked for, a complete trial among it."""
        return self.best is not None and self.asked is not None and self.counts.finished >= self.asked


def list_studies(storage: RDBStorage) -> list[StudyOverview]:
    """Return every study that the harness made in this storage, the last touched first."""
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
                asked=summary.user_attrs.get(TARGETS_KEY, {}).get("n_trials"),
                counts=count_trials(trials),
                best=None if best is None else best.value,
                best_params={} if best is None else dict(best.params),
                last_touched=max(times, default=None),
            )
        )
    return sorted(overviews, key=lambda o: (o.last_touched is not None, o.last_touched), reverse=True)


def delete_study(storage: RDBStorage, name: str) -> bool:
    """Delete a study, and its leases, from the storage; return False where there is none of that name."""
    try:
        optuna.delete_study(study_name=name, storage=storage)
    except KeyError:
        return False
    if sqlite_path(str(storage.engine.url)) is None:
        Leases(storage.engine, name, place="").delete()
    return True


def count_trials(trials: list[FrozenTrial]) -> TrialCounts:
    """Count trials by state."""
    states = [trial.state for trial in trials]
    return TrialCounts(
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        waiting=states.count(TrialState.WAITING),
    )


def trial_result(trial: FrozenTrial) -> TrialResult:
    """Return how a trial that has ended did so, as its worker told it; of a FAIL, not of which kind."""
    result = trial.user_attrs.get(RESULT_KEY) or {}
    states: dict[TrialState, Literal["complete", "pruned", "failed"]]
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    best = None if result.get("best") is None else EpochMetrics(**result["best"])
    return TrialResult(state=states[trial.state], best=best, reason=result.get("reason"))


def trial_row(trial: FrozenTrial) -> TrialRow:
    """Return a trial as a row."""
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
