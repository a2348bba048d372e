"""The confirmation of a study: its best trials, trained again on fresh folds and with other seeds.

The best of many trials is partly the luckiest one, and its accuracy flatters it. The confirmation measures the
best few again on another cut of the same tracks, and the choice is made on both measurements. It is a study of its
own, so that its trials are resumed and recorded as all others are.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from harness.core.names import derive_seed
from harness.core.space import possible_crops
from harness.core.study_record import Confirmation, ConfirmedTrial
from harness.core.tables import write_table
from harness.core.trial_rows import TrialRow
from harness.data import with_crop
from harness.study import Study
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.outcome import unconfirmed
from harness.sweep.plan import SweepPlan, confirmation_name, part_settings, training_splits
from harness.sweep.reconcile import Record
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import Listener
from harness.tracking import StudyState, Tracker

CONFIRMATION_FILE = "confirmation.csv"


def plan_confirmation(plan: SweepPlan, trials: int) -> SweepPlan:
    """Return the plan of the study that confirms so many trials of the plan's study."""
    spec = replace(
        plan.spec,
        name=confirmation_name(plan.spec.name),
        seed=derive_seed(plan.spec.seed, "confirm"),
        sampler="random",
        pruner="none",
        confirms=plan.spec.name,
    )
    # The crop of pictures is fitted on the train part of each fold.
    crops = possible_crops(spec.space, spec.fixed)
    tracks = with_crop(plan.tracks, training_splits(plan.tracks, plan.split, spec), crops)
    settings = part_settings(plan.settings, spec.name, trials=trials)
    return replace(plan, settings=settings, spec=spec, tracks=tracks, known=None, joins=False)


def confirm(
    plan: SweepPlan, study: Study, summary: StudySummary, listener: Listener = lambda *_: None
) -> StudySummary:
    """Train the best trials of a study on fresh folds, and record the choice in both stores.

    A trial that an earlier confirmation has measured is not trained again. Return the summary of the study with
    the trial that was chosen. Of a confirmation that was interrupted, or for which the time was up, nothing is
    chosen.

    Raises what `run_sweep` raises, and StudyError if all of the best trials fail on the fresh folds.
    """
    finished = study.counts().finished  # before the trials are read: another sweep of the study may end one now
    best = study.ranked()[: plan.confirms]
    if not best:
        return summary
    own = plan_confirmation(plan, len(best))
    part = open_study(own, first_params={})  # its first trial is not the report's: all are enqueued
    part.enqueue(best)
    total = part.counts().total
    if total > len(best):  # an earlier confirmation had other trials
        own = plan_confirmation(plan, total)
        part = open_study(own)
    found = run_sweep(own, part, listener)
    summary = replace(summary, listener_error=summary.listener_error or found.listener_error)
    if not found.is_over:  # of a part of the best trials nothing is chosen
        return replace(summary, signal=found.signal, unsent=found.unsent, is_late=found.signal is None)
    confirmation = _measured(best, part, finished=finished)
    if confirmation is None:
        raise unconfirmed(plan, part)
    study.set_confirmation(confirmation)
    run_id = _record(plan, study, found.parent_run_id, confirmation)
    return replace(summary, best=study.best(), best_run_id=run_id, confirmation=confirmation)


def _measured(best: list[TrialRow], part: Study, finished: int) -> Confirmation | None:
    """Return what the search and the fresh folds say of the trials together, None if no fresh one is complete."""
    fresh = part.repeated()
    trials = tuple(
        _both(row, again)
        for row in best
        if (again := fresh.get(row.number)) is not None and again.state == "COMPLETE"
    )
    return Confirmation(finished=finished, trials=trials) if trials else None


def _both(row: TrialRow, again: TrialRow) -> ConfirmedTrial:
    assert row.val_accuracy is not None
    assert row.val_loss is not None
    assert row.best_epoch is not None
    assert again.val_accuracy is not None
    assert again.val_loss is not None
    assert again.best_epoch is not None
    return ConfirmedTrial(
        trial=row.number,
        params=row.params,
        search=row.val_accuracy,
        fresh=again.val_accuracy,
        val_loss=(row.val_loss + again.val_loss) / 2,
        epoch=round((row.best_epoch + again.best_epoch) / 2),
        folds=row.folds + again.folds,
    )


def _record(plan: SweepPlan, study: Study, part: str, confirmation: Confirmation) -> str | None:
    """Write the confirmation and the study's new figures to the study's run; return the id of the chosen run."""
    tracker = Tracker(plan.stores.tracking_uri)
    parent = tracker.studies.require_run(plan.spec.name, study.context.identity).run_id
    rows: list[list[object]] = [["trial", "search", "fresh", "both", "val_loss", "epoch", "chosen"]]
    for trial in confirmation.trials:
        is_chosen = int(trial is confirmation.chosen)
        figures = [trial.search, trial.fresh, trial.val_accuracy, trial.val_loss, trial.epoch, is_chosen]
        rows.append([trial.trial, *figures])
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / CONFIRMATION_FILE, rows)
        tracker.artifacts.log_files(parent, Path(folder))
    tracker.parts.note_confirmation(plan.spec.name, study.context.identity, part, confirmation)
    return Record(study, tracker, parent).conclude(StudyState.COMPLETE)
