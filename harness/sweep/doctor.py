"""Finds faults in the stores, study by study, and repairs them.

A few queries over both stores name the studies with which something may be wrong, and only those are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError, mask_password
from harness.core.events import Ended, EpochDone, has_ended
from harness.core.files import sqlite_path
from harness.core.journal import find_journals, odd_files, read_events
from harness.core.names import WorkerId, new_name
from harness.core.trial_rows import ENDED_STATES
from harness.core.workspace import Stores
from harness.study import Study, StudyFault, StudyOverview, list_studies, open_storage, reaching
from harness.sweep.examination import Examination, Finding
from harness.sweep.reconcile import Record, sent_trials
from harness.sweep.recovery import close_journals
from harness.sweep.unknown_runs import examine_unknown_runs, work_of_others
from harness.tracking import (
    DEAD_AFTER_MINUTES,
    Kind,
    Machine,
    RunInfo,
    RunStatus,
    StudyState,
    Tracker,
    fix_artifact_paths,
    forget,
    moved_experiments,
    own_run,
    read_presences,
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
        with translated(f"correcting the paths in {database}"):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    """The studies of Optuna's storage, of which `open` opens one, and the folders of their journals."""

    lines: list[StudyOverview]
    open: Callable[[StudyOverview], Study]
    work_folder: Callable[[str], Path]

    @property
    def sound(self) -> list[StudyOverview]:
        """The studies that can be opened."""
        return [line for line in self.lines if line.fault is None]

    def has_journals(self, line: StudyOverview) -> bool:
        """Whether a study has journals on this machine."""
        return bool(find_journals(self.work_folder(line.name)))


def _both_stores(examination: Examination, opened: ExitStack) -> Iterator[Finding]:
    with reaching(examination.stores.storage):
        storage = _open(examination, opened)
        for line in storage.lines:
            if line.fault is not None:
                yield _odd_study(line, line.fault)
        for line in storage.sound:
            yield from _odd_files(line, storage.work_folder(line.name))
            if line.counts.running or storage.has_journals(line):
                yield from _with_error(line.name, _stale_trials(examination, storage, line))
    tracker = Tracker(examination.stores.tracking_uri, create=False, read_only=not examination.fix)
    opened.callback(tracker.close)
    known: set[str] = set()
    with reaching(examination.stores.storage):
        yield from _records(examination, storage, tracker, known)
    yield from examine_unknown_runs(examination, tracker, known)


def _open(examination: Examination, opened: ExitStack) -> _Storage:
    stores, worker_id = examination.stores, WorkerId(sweep=new_name())
    storage = open_storage(stores.storage, create=False, read_only=not examination.fix)
    opened.callback(storage.engine.dispose)
    return _Storage(
        lines=list_studies(storage),
        open=lambda line: Study.open(storage, line.name, stores.work_folder(line.name), worker_id),
        work_folder=stores.work_folder,
    )


def _odd_study(line: StudyOverview, fault: StudyFault) -> Finding:
    hint = None if fault is StudyFault.FOREIGN else fault.error(line.name).hint
    return Finding(study=line.name, found=str(fault), fixed=False, hint=hint, fault=fault is StudyFault.DAMAGED)


def _odd_files(line: StudyOverview, work_folder: Path) -> Iterator[Finding]:
    for path in odd_files(work_folder):
        found = f"{path} is not a journal of harness, and is ignored"
        yield Finding(study=line.name, found=found, fixed=False, hint="remove it if nobody needs it", fault=False)


def _records(examination: Examination, storage: _Storage, tracker: Tracker, known: set[str]) -> Iterator[Finding]:
    """Yield what is found on the record of each study in MLflow; add the ids of the studies' runs to `known`."""
    named = tracker.studies.all_runs()
    running = tracker.runs.running(Kind.STUDY, Kind.TRIAL)
    busy = {run.family_id for run in running}
    busy |= {run.run_id for run in running if run.kind == Kind.STUDY}  # the run of a part has a parent
    found_runs: dict[str, RunInfo] = {}
    for line in storage.sound:
        run = own_run(named.get(line.name, []), line.identity or "")
        if run is None:
            # On a shared server two storages may have a study of the same name.
            yield _without_run(examination, storage, line, of_others=line.name in named)
            continue
        known.add(run.run_id)
        found_runs[line.name] = run
        if run.run_id in busy or storage.has_journals(line):
            yield from _with_error(line.name, _study_on_record(examination, storage, line, tracker, run))
    yield from _lost_bests(tracker, found_runs)
    for run in running:
        if run.kind == Kind.TRIAL and run.family_id in known and not run.is_numbered:
            found = f"run {run.run_id} is not as harness makes the run of a trial, and is ignored"
            yield Finding(study=run.study, found=found, fixed=False, hint="harness ui, to look at it", fault=False)


def _lost_bests(tracker: Tracker, runs: dict[str, RunInfo]) -> Iterator[Finding]:
    """Yield a finding for each study whose best trial has no run; `runs` are those of the studies, by name."""
    there = tracker.runs.present([run.best_run_id for run in runs.values() if run.best_run_id is not None])
    for study, run in runs.items():
        if run.best_trial is None or run.best_run_id in there:
            continue
        if run.best_run_id is None and tracker.studies.trial_run(run.run_id, run.best_trial) is not None:
            continue  # it was sent after the study's end
        found = f"the run of its best trial ({run.best_trial}) is not in MLflow, or not any more"
        yield Finding(study=study, found=found, fixed=False, hint="harness ui, to restore it")


def _without_run(examination: Examination, storage: _Storage, line: StudyOverview, of_others: bool) -> Finding:
    at = mask_password(examination.stores.tracking_uri)
    if of_others:
        found = f"MLflow at {at} has the run of another study of that name, made with another --storage"
        return Finding(study=line.name, found=found, fixed=False, hint="harness sweep --study NEW")
    hint = f"harness sweep --study {line.name}, with what it was made with"
    if sent_trials(storage.open(line)):
        hint = "--tracking-uri of the store that has its record"
    return Finding(study=line.name, found=f"MLflow at {at} has no run of the study", fixed=False, hint=hint)


def _study_on_record(
    examination: Examination, storage: _Storage, line: StudyOverview, tracker: Tracker, parent: RunInfo
) -> Iterator[Finding]:
    """Yield what is found on a study that both stores have."""
    record = Record(storage.open(line), tracker, parent.run_id)
    parent = tracker.runs.get(parent.run_id)  # again: a sweep may have ended since all studies were read
    # A run of version 0.1 has no heartbeats: only the lock files show whether it is live.
    has_heartbeat = parent.status == RunStatus.RUNNING and bool(read_presences(parent))
    life = examination.judge(record.tracker, parent) if has_heartbeat else None
    elsewhere = life is not None and life.state == "elsewhere"
    if life is not None and elsewhere:
        yield work_of_others(parent, life)
        if not record.study.is_shared:
            return  # a copy of this storage is in use: this one does not have the current state of its trials
    yield from _unsent_journals(examination, record)
    yield from _orphaned_runs(examination, record)
    if not elsewhere:
        yield from _unended_study(examination, record, parent)


def _stale_trials(examination: Examination, storage: _Storage, line: StudyOverview) -> Iterator[Finding]:
    study = storage.open(line)
    for number in study.recover() if examination.fix else study.stale():
        yield examination.fixable(study.name, f"trial {number} was RUNNING, and no process runs it")
    if examination.fix:
        close_journals(study)


def _unsent_journals(examination: Examination, record: Record) -> Iterator[Finding]:
    """Yield the journals with events that MLflow lacks. Journals of trials that go on are kept after sending."""
    study = record.study
    if study.has_live_sweep():
        return  # a live sweep sends them
    ended, journals = {}, find_journals(study.work_folder)
    states = study.states(journals)
    for number, path in journals.items():
        events, sound = read_events(path)
        ended_here = has_ended(events)
        if states.get(number) in ENDED_STATES and not ended_here and study.is_ours(number):
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
        was = "paused" if run.status == RunStatus.SCHEDULED else "was RUNNING"
        found = f"the run of trial {run.trial_number} ({run.run_id}) {was}; its trial is {state}"
        yield examination.fixable(record.study.name, found)


def _unended_study(examination: Examination, record: Record, parent: RunInfo) -> Iterator[Finding]:
    study = record.study
    if parent.status != RunStatus.RUNNING or study.counts().running or study.has_live_sweep():
        return
    yield examination.fixable(study.name, "the study's run was RUNNING, and no process runs it")
    if examination.fix:
        short = study.targets is not None and not study.is_complete(study.targets.n_trials)
        # A run that lacks its split or settings gets them from the sweep that goes on.
        goes_on = short or not parent.is_whole
        record.conclude(StudyState.INTERRUPTED if goes_on else StudyState.COMPLETE)
        forget(record.tracker, parent)
