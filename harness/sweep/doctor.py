"""Finds faults in the stores, study by study, and repairs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness.core.errors import HarnessError, mask_password
from harness.core.events import Ended, EpochDone, has_ended
from harness.core.files import sqlite_path
from harness.core.journal import find_journals, read_events
from harness.core.records import WorkerId, new_name
from harness.core.workspace import Stores
from harness.study import Study, list_studies, open_storage, reaching
from harness.sweep.examination import Examination, Finding
from harness.sweep.reconcile import Record
from harness.sweep.recovery import close_journals
from harness.sweep.unknown_runs import examine_unknown_runs, work_of_others
from harness.tracking import (
    DEAD_AFTER_MINUTES,
    Machine,
    RunInfo,
    RunStatus,
    StudyState,
    Tracker,
    fix_artifact_paths,
    forget,
    moved_experiments,
    translated,
)


def examine(stores: Stores, *, fix: bool, dead_after: float = DEAD_AFTER_MINUTES) -> Iterator[Finding]:
    """Examine both stores and the journals of this machine; with `fix`, repair what can be repaired.

    Without `fix` nothing is written. With it, a run that is RUNNING in MLflow is ended only if its process ran on
    this machine and has died, or if it has had no heartbeat for `dead_after` minutes. Any other run
    belongs to another process, and is reported.
    """
    examination = Examination(
        machine=Machine.here(stores.work_root, create=False),
        stores=stores,
        dead_after=dead_after,
        fix=fix,
    )
    for findings in (_moved(examination), _stores(examination)):
        yield from _with_error(None, findings)


def _with_error(study: str | None, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; an error ends them and is the last one."""
    try:
        yield from findings
    except HarnessError as error:
        yield Finding(study=study, found=error.found, fixed=False, hint=error.hint)


def _moved(examination: Examination) -> Iterator[Finding]:
    database = sqlite_path(examination.stores.tracking_uri)
    if database is None or not database.exists():
        return
    with translated(f"reading {database}"):
        moved = moved_experiments(database)
    for name, uri in moved.items():
        found = f"{database.parent} was moved or copied: the artifacts of {name!r} are recorded at {uri}"
        yield examination.fixable(None, found)
    if examination.fix:
        fix_artifact_paths(database)


def _stores(examination: Examination) -> Iterator[Finding]:
    for url in (examination.stores.storage, examination.stores.tracking_uri):
        path = sqlite_path(url)
        if path is not None and not path.exists():
            yield Finding(
                study=None, found=f"there is no store {path} yet", fixed=False, hint="harness sweep, to make one"
            )
            return
    with ExitStack() as opened:
        yield from _both_stores(examination, opened)


def _both_stores(examination: Examination, opened: ExitStack) -> Iterator[Finding]:
    with reaching(examination.stores.storage):
        studies = _open_studies(examination, opened)
        for study in studies:
            yield from _with_error(study.name, _stale_trials(examination, study))
    tracker = Tracker(examination.stores.tracking_uri, create=False, read_only=not examination.fix)
    opened.callback(tracker.close)
    known = set()
    with reaching(examination.stores.storage):
        for study in studies:
            run, of_others = _run_of(tracker, study)
            if run is None:
                yield _without_run(examination, study, of_others)
                continue
            known.add(run.run_id)
            record = Record(study, tracker, run.run_id)
            yield from _with_error(study.name, _study_on_record(examination, record, run))
    yield from examine_unknown_runs(examination, tracker, known)


def _open_studies(examination: Examination, opened: ExitStack) -> list[Study]:
    storage = open_storage(examination.stores.storage, create=False, read_only=not examination.fix)
    opened.callback(storage.engine.dispose)
    stores, worker_id = examination.stores, WorkerId(sweep=new_name())
    return [
        Study.open(storage, line.name, stores.work_folder(line.name), worker_id) for line in list_studies(storage)
    ]


def _run_of(tracker: Tracker, study: Study) -> tuple[RunInfo | None, bool]:
    """Return a study's run, and whether there are runs of other studies of that name.

    On a shared server two storages may have a study of the same name.
    """
    runs = tracker.studies.runs_named(study.name)
    own = [run for run in runs if run.study_identity in (None, study.context.identity)]
    return next(iter(own), None), len(own) < len(runs)


def _without_run(examination: Examination, study: Study, of_others: bool) -> Finding:
    at = mask_password(examination.stores.tracking_uri)
    if of_others:
        found = f"MLflow at {at} has the run of another study of that name, made with another --storage"
        return Finding(study=study.name, found=found, fixed=False, hint="harness sweep --study NEW")
    hint = f"harness sweep --study {study.name}, with what it was made with"
    return Finding(study=study.name, found=f"MLflow at {at} has no run of the study", fixed=False, hint=hint)


def _study_on_record(examination: Examination, record: Record, parent: RunInfo) -> Iterator[Finding]:
    """Yield what is found on a study that both stores have."""
    life = examination.judge(record.tracker, parent)
    # A run of version 0.1 has no heartbeats: only the lock files show whether it is live.
    elsewhere = parent.status == RunStatus.RUNNING and life.state == "elsewhere" and life.by is not None
    if elsewhere:
        yield work_of_others(parent, life)
        if not record.study.is_shared:
            return  # a copy of this storage is in use: this one does not have the current state of its trials
    yield from _unsent_journals(examination, record)
    yield from _orphaned_runs(examination, record)
    if not elsewhere:
        yield from _unended_study(examination, record, parent)


def _stale_trials(examination: Examination, study: Study) -> Iterator[Finding]:
    for number in study.recover() if examination.fix else study.stale():
        yield examination.fixable(study.name, f"trial {number} was RUNNING, and no process runs it")
    if examination.fix:
        close_journals(study)


def _unsent_journals(examination: Examination, record: Record) -> Iterator[Finding]:
    """Yield the journals with events that MLflow lacks. Journals of trials that go on are kept after sending."""
    study = record.study
    if study.has_live_sweep():
        return  # a live sweep sends them
    ended, over = {}, study.finished_numbers()
    for number, path in find_journals(study.work_folder).items():
        events, sound = read_events(path)
        ended_here = has_ended(events)
        if number in over and not ended_here:
            found = f"the journal {path} is damaged: trial {number} had ended, and its last epochs are lost"
            yield examination.fixable(study.name, found)
        elif sound < path.stat().st_size:
            yield Finding(
                study=study.name,
                found=f"the journal {path} has a line that is cut short or damaged; what follows it is not used",
                fixed=False,
                hint=f"harness sweep --study {study.name}: the trial goes on from what is sound",
            )
        if ended_here:
            epochs = sum(isinstance(event, EpochDone) for event in events)
            mended = any(isinstance(event, Ended) and event.mended is not None for event in events)
            damaged = ", its journal was damaged" if mended else ""
            ended[number] = f"{epochs} epochs{damaged}"
    if examination.fix:
        record.uploader().close()
    for number, what in ended.items():
        yield examination.fixable(
            study.name, f"trial {number} had ended, and its record ({what}) was not in MLflow"
        )


def _orphaned_runs(examination: Examination, record: Record) -> Iterator[Finding]:
    for run, state in record.end_orphaned_runs() if examination.fix else record.orphans():
        found = f"the run of trial {run.trial_number} ({run.run_id}) was RUNNING; its trial is {state}"
        yield examination.fixable(record.study.name, found)


def _unended_study(examination: Examination, record: Record, parent: RunInfo) -> Iterator[Finding]:
    study = record.study
    if parent.status != RunStatus.RUNNING or study.counts().running or study.has_live_sweep():
        return
    yield examination.fixable(study.name, "the study's run was RUNNING, and no process runs it")
    if examination.fix:
        short = study.targets is not None and study.counts().finished < study.targets.n_trials
        record.conclude(StudyState.INTERRUPTED if short else StudyState.COMPLETE)
        forget(record.tracker, parent)
