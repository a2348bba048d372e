"""The best trial of a study by its runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import StudyError
from harness.core.objective import Objective
from harness.core.ranking import rank
from harness.tracking.run_info import OBJECTIVE, RunInfo

BEST_LOSS = "best_val_loss"


def best_of(study: RunInfo, runs: Sequence[RunInfo]) -> RunInfo | None:
    """Return the run of the best complete trial, the confirmed one first; None if no trial is complete.

    `study` is the run of the study, `runs` are those of its trials.
    """
    objective = Objective.of_text(study.params.get(OBJECTIVE))
    name, confirmed = objective.best_name, study.confirmed_trial
    complete = [run for run in runs if run.trial_state == "complete" and name in run.metrics]
    return min(
        complete,
        key=lambda run: (
            run.trial_number != confirmed,
            *rank(run.metrics[name], run.metrics.get(BEST_LOSS), run.trial_number, objective),
        ),
        default=None,
    )


def check_has_best(study: RunInfo, runs: Sequence[RunInfo], best: RunInfo) -> None:
    """Raise StudyError if the study's run names another best trial, whose run is deleted or has no figures.

    Without this the second best would be taken for it.
    """
    named, number = study.best_run_id, study.best_trial
    if named is None and number is None:
        return

    def is_named(run: RunInfo) -> bool:
        return run.trial_number == number if named is None else run.run_id == named

    found = best if is_named(best) else next(filter(is_named, runs), None)
    if found is None:
        raise StudyError(
            f"the run of the best trial ({number}) of study {study.study!r} is not in MLflow, or not any more",
            expected="the run of the best trial",
            hint="harness ui, to restore it; to export another trial, --run with its run",
        )
    if Objective.of_text(study.params.get(OBJECTIVE)).best_name not in found.metrics:
        raise StudyError(
            f"the run {found.run_id} of the best trial of study {study.study!r} has no figures: its end is not on "
            "record",
            expected="the figures and the checkpoint of the best trial",
            hint="harness doctor; to export another trial, --run with its run",
        )
