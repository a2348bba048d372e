"""Runs a planned sweep: opens the stores, supervises the workers, ends the study."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.core.errors import TrackingError, mask_password
from harness.core.files import sqlite_path
from harness.core.journal import check_journals, find_journals
from harness.core.names import WorkerId, new_name
from harness.core.space import Params, describe
from harness.core.study_record import DatasetInfo, Stall, StudyContext, Targets
from harness.core.trust import remember
from harness.study import Study, open_storage, reaching
from harness.sweep.outcome import failure, outcome
from harness.sweep.placing import make_workers
from harness.sweep.plan import SweepPlan
from harness.sweep.reconcile import Record, progress_digest, sent_trials
from harness.sweep.recovery import close_journals, handle_worker_death, requeue_stopped
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import JournalUploader, Listener
from harness.tracking import (
    Heartbeat,
    Machine,
    Presence,
    StudyState,
    Tracker,
    fix_artifact_paths,
    moved_experiments,
    translated,
)
from harness.tracking.standing import is_standing
from harness.workers.supervisor import Workers

PATIENCE_SECONDS = 10.0  # to wait at the end of a sweep for a tracking server that is down


def open_study(plan: SweepPlan, first_params: Params | None = None) -> Study:
    """Open the plan's study, or create it, and repair what an earlier crash left behind.

    `first_params` are those of the first trial of a new study: by default the plan's, none if it is empty.

    Raises StudyError if a study of that name has other settings or another experiment, or if something else than a
    file is in the place of a journal.
    """
    check_journals(plan.work_folder, plan.settings.trials)
    with reaching(plan.stores.storage):
        study = Study.create(
            open_storage(plan.stores.storage),
            plan.spec,
            _context(plan),
            plan.work_folder,
            WorkerId(sweep=new_name()),
            plan.first_params if first_params is None else first_params,
            plan.known,
        )
        study.recover()
        close_journals(study)
        if not plan.joins:
            settings = plan.settings
            # The user has named the file, but for a nested search, whose file is that of a record.
            if plan.model.source_digest is not None and plan.spec.nested_in is None:
                remember(plan.model.source_digest, Path(plan.model.name.rpartition(":")[0]))
            targets = Targets(
                n_trials=settings.trials,
                attempts=settings.attempts,
                keep=settings.keep,
                patience=settings.patience,
                confirm=plan.confirms,
            )
            study.set_targets(targets, keeps="keep" in settings.model_fields_set)
    return study


def run_sweep(plan: SweepPlan, study: Study, listener: Listener = lambda *_: None) -> StudySummary:
    """Run trials until the study has `plan.settings.trials` finished ones, then write its end to both stores.

    Raises StudyError if the study cannot go on: too many trials failed, or a trial has a bug.
    Raises TrackingError if MLflow did not accept all results.
    """
    began, plan = time.monotonic(), plan.begun()
    concluded = _concluded(plan, study)
    if concluded is not None:
        return concluded
    try:
        sweep = make_workers(plan, study)
    except BaseException:
        study.forget()
        raise
    with sweep.handle_signals(), reaching(plan.stores.storage), study.registered(), ExitStack() as stack:
        machine = Machine.here(plan.stores.work_root, create=True)
        presence = Presence.of_this_process(machine, study.worker_id.sweep, study.sweep_lock_path)
        record = _begin_both(plan, study, presence, sweep)
        heartbeat = stack.enter_context(Heartbeat(record.tracker, record.parent, machine, presence))
        uploader = stack.enter_context(record.uploader(listener))

        def on_death(worker: str, cause: str) -> bool:
            with uploader.paused():
                return handle_worker_death(study, worker, cause, plan.settings.attempts)

        # While the workers train: the pictures of the end take matplotlib, whose import takes half a second.
        import harness.study.plots  # noqa: F401

        sweep.run(on_death)
        if sweep.signal is None:
            with uploader.paused():
                close_journals(study)  # also those of trials that other machines took over
        unsent = _send_rest(uploader, heartbeat, study, interrupted=sweep.signal is not None)
        timed_out = plan.deadline is not None and time.monotonic() >= plan.deadline
        end = _conclude(plan, study, record, sweep, timed_out) if unsent is None else _End()
    if end.state == StudyState.FAILED:
        raise failure(plan, study, sweep.fault)
    return StudySummary(
        spec=plan.spec,
        counts=study.counts(),
        trials_wanted=plan.settings.trials,
        best=study.best(),
        best_run_id=end.best_run_id,
        parent_run_id=record.parent,
        seconds=time.monotonic() - began,
        tracking_uri=mask_password(plan.stores.tracking_uri),
        synthetic=plan.tracks.synthetic,
        known=study.known,
        signal=sweep.signal,
        stall=end.stall,
        unsent=unsent,
        listener_error=uploader.listener_error,
    )


def _concluded(plan: SweepPlan, study: Study) -> StudySummary | None:
    """Return the summary of a finished study whose end is on record, None if there is anything left to do.

    MLflow, which takes two seconds, is not imported.
    """
    database, noted, counts = sqlite_path(plan.stores.tracking_uri), study.conclusion, study.counts()
    if database is None or noted is None or plan.refits or plan.confirms:
        return None
    if not study.is_complete(plan.settings.trials):
        return None
    if noted.progress != progress_digest(study.rows()) or find_journals(study.work_folder):
        return None
    if not is_standing(database, noted) or moved_experiments(database) or "keep" in plan.settings.model_fields_set:
        return None
    return StudySummary(
        spec=plan.spec,
        counts=counts,
        trials_wanted=plan.settings.trials,
        best=study.best(),
        best_run_id=noted.best,
        parent_run_id=noted.parent,
        seconds=0.0,
        tracking_uri=mask_password(plan.stores.tracking_uri),
        synthetic=plan.tracks.synthetic,
        known=study.known,
    )


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a study as both stores have it; by default that of a sweep whose results are not all sent."""

    state: StudyState = StudyState.INTERRUPTED
    best_run_id: str | None = None
    stall: Stall | None = None


def _conclude(plan: SweepPlan, study: Study, record: Record, sweep: Workers, timed_out: bool) -> _End:
    """Write the end of a study to both stores, once all results are sent."""
    record.end_orphaned_runs()
    short = not study.is_complete(plan.settings.trials)
    went_well = sweep.signal is None and not sweep.fault
    stall = study.stall(plan.budget) if short and went_well else None
    if stall is not None:
        study.accept_stall()
        record.tracker.studies.note_stall(record.parent, stall)
    state = outcome(sweep, study.counts(), short and stall is None, timed_out)
    return _End(state, record.conclude(state), stall)


def _send_rest(
    uploader: JournalUploader, heartbeat: Heartbeat, study: Study, *, interrupted: bool
) -> TrackingError | None:
    """Send what is left and requeue the trials that were stopped, also if it cannot be sent.

    Return and raise what `_close_upload` does.
    """
    is_sent = False
    try:
        unsent = _close_upload(uploader, heartbeat, interrupted=interrupted)
        is_sent = unsent is None
    finally:
        requeue_stopped(study, is_sent=is_sent)
    return unsent


def _close_upload(uploader: JournalUploader, heartbeat: Heartbeat, *, interrupted: bool) -> TrackingError | None:
    """Send what is left; return the error of an interrupted sweep that could not, and raise that of any other."""
    if not interrupted:
        uploader.close(patience=PATIENCE_SECONDS)
        return None
    try:
        uploader.close(hurry=True)
    except TrackingError as error:
        heartbeat.is_heard = False  # MLflow does not answer: do not wait for it to end the heartbeat
        return error  # printed with the summary; the exit code is the signal's
    return None


def _begin_both(plan: SweepPlan, study: Study, presence: Presence, sweep: Workers) -> Record:
    """Begin the workers, and the record while they start: MLflow takes as long to import as PyTorch.

    If there can be no record, the workers are stopped and their trials requeued. A new study that has no run in
    MLflow is deleted then: it would keep its name and its settings. Where journals of an earlier study lie, the
    record comes first: workers remove them, and MLflow may refuse the new study.
    """
    try:
        record = _begin_record(plan, study, presence) if study.finds_journals else None
        sweep.begin()
        return record or _begin_record(plan, study, presence)
    except BaseException:
        sweep.abandon()
        requeue_stopped(study, is_sent=False)
        if study.is_new and not study.is_shared and not _has_run(plan, study):
            study.forget()
        raise


def _has_run(plan: SweepPlan, study: Study) -> bool:
    """Return whether MLflow has a run of the study; False if it does not answer."""
    try:
        return bool(
            Tracker(plan.stores.tracking_uri).studies.runs_named(study.name, identity=study.context.identity)
        )
    except TrackingError:
        return False


def _begin_record(plan: SweepPlan, study: Study, presence: Presence) -> Record:
    """Open the study's record. The lock makes it one parent run, however many machines begin at once."""
    database = sqlite_path(plan.stores.tracking_uri)
    if database is not None:
        with translated(f"repairing the paths in {database}"):
            fix_artifact_paths(database)
    tracker, targets = Tracker(plan.stores.tracking_uri), study.targets
    asked = plan.settings.trials if targets is None else targets.n_trials
    with study.lock():
        parent = tracker.studies.begin(
            plan.spec,
            _description(plan),
            plan.split,
            study.context,
            asked,
            presence=presence.as_tags(),
            known=study.known,
            recorded=partial(sent_trials, study),
        )
    record = Record(study, tracker, parent)
    record.end_orphaned_runs()
    return record


def _context(plan: SweepPlan) -> StudyContext:
    """Return the facts that the study's record keeps beside its settings."""
    tracks, name = plan.tracks, plan.spec.experiment
    return StudyContext(
        experiment=name,
        identity=new_name(),
        dataset=DatasetInfo(
            name=f"{name} (synthetic)" if tracks.synthetic else name,
            folder=str(tracks.folder),
            tracks=len(tracks.ids),
            genres=len(tracks.genres),
            digest=tracks.digest,
            options=tracks.options,
        ),
        synthetic=tracks.synthetic,
        columns=plan.spec.columns,
        model_source=plan.model.source,
    )


def _description(plan: SweepPlan) -> str:
    synthetic = "**Synthetic data.**\n\n" if plan.tracks.synthetic else ""
    return (
        f"{synthetic}Study of `{plan.spec.model}` on {len(plan.tracks.ids)} tracks, split: {plan.split.name} "
        f"({len(plan.split.train)} train, {len(plan.split.valid)} validation, {len(plan.split.test)} test). "
        f"{_trials(plan)}"
    )


def _trials(plan: SweepPlan) -> str:
    """Return what the trials of a new study are, as a sentence."""
    spec = plan.spec
    if spec.refit_of is not None:
        setting, last = describe(spec.fixed), spec.last_epoch
        return f"The refit of `{spec.refit_of}`: {setting}, on train and validation part together, {last} epochs."
    if spec.confirms is not None:
        return f"The confirmation of `{spec.confirms}`: its best trials again, on fresh folds, with other seeds."
    if spec.covers_all:
        return "The trials are the points of a grid."
    first = describe(plan.first_params)
    if plan.known is not None:
        return f"The search was told {plan.known}. Trial 0 is the best of them: {first}."
    return f"Trial 0 is the default setting, or what of the search space is nearest to it: {first}."
