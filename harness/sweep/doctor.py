"""What is wrong with the stores, study by study, and how it is put right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import HarnessError, mask_password
from harness.core.events import Ended, EpochDone, has_ended
from harness.core.files import sqlite_path
from harness.core.journal import comparison_lock, read_events
from harness.core.json_types import JsonObject
from harness.core.records import WorkerId, new_name
from harness.core.workspace import Stores
from harness.study import Study, list_studies, open_storage, reaching
from harness.sweep.reconcile import Record
from harness.sweep.recovery import close_journals
from harness.tracking import (
    Kind,
    RunStatus,
    StudyState,
    Tracker,
    fix_artifact_paths,
    moved_experiments,
    translated,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be: where, what, whether it was mended, and what to run if it was not."""

    study: str | None
    found: str
    fixed: bool
    hint: str | None = None

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        return asdict(self)


def _mendable(*, study: str | None, found: str, fix: bool) -> Finding:
    return Finding(study=study, found=found, fixed=fix, hint=None if fix else "harness doctor --fix")


def examine(stores: Stores, *, fix: bool) -> Iterator[Finding]:
    """Look through both stores and the work in progress of this machine; with `fix`, put right what can be.

    Nothing that a live process is at work on is touched, and without `fix` nothing is written at all.
    """
    for findings in (_moved(stores.tracking_uri, fix), _studies(stores, fix)):
        try:
            yield from findings
        except HarnessError as error:
            yield Finding(study=None, found=error.found, fixed=False, hint=error.hint)


def _moved(tracking_uri: str, fix: bool) -> Iterator[Finding]:
    database = sqlite_path(tracking_uri)
    if database is None or not database.exists():
        return
    with translated(f"reading {database}"):
        moved = moved_experiments(database)
    for name, uri in moved.items():
        yield _mendable(
            study=None,
            found=f"{database.parent} was moved or copied: the artifacts of {name!r} are recorded at {uri}",
            fix=fix,
        )
    if fix:
        fix_artifact_paths(database)


def _studies(stores: Stores, fix: bool) -> Iterator[Finding]:
    for url in (stores.storage, stores.tracking_uri):
        path = sqlite_path(url)
        if path is not None and not path.exists():
            yield Finding(
                study=None, found=f"there is no store {path} yet", fixed=False, hint="harness sweep, to make one"
            )
            return
    with reaching(stores.storage):
        opened = open_storage(stores.storage, create=False)
        studies = [
            Study.open(opened, line.name, stores.work_folder(line.name), WorkerId(sweep=new_name()))
            for line in list_studies(opened)
        ]
        for study in studies:
            yield from _stale_trials(study, fix)
    tracker = Tracker(stores.tracking_uri, create=False)
    with reaching(stores.storage):
        for study in studies:
            run = tracker.studies.run(study.name)
            if run is None:
                yield Finding(
                    study=study.name,
                    found=f"MLflow at {mask_password(stores.tracking_uri)} has no run of the study",
                    fixed=False,
                    hint=f"harness sweep --study {study.name}, with what it was made with",
                )
            else:
                record = Record(study, tracker, run.run_id)
                yield from _unsent_journals(record, fix)
                yield from _orphaned_runs(record, run.status, fix)
    yield from _unknown_runs(tracker, {study.name for study in studies}, fix)
    yield from _comparisons(tracker, stores.work_root, fix)


def _stale_trials(study: Study, fix: bool) -> Iterator[Finding]:
    for number in study.recover() if fix else study.stale():
        yield _mendable(
            study=study.name,
            found=f"trial {number} was RUNNING, and no process runs it",
            fix=fix,
        )
    if fix:
        close_journals(study)


def _unsent_journals(record: Record, fix: bool) -> Iterator[Finding]:
    """Journals that hold what MLflow has not got; those of trials that are to go on are kept after sending."""
    if record.study.has_live_sweep():
        return  # a sweep is at work and sends them
    ended, over = {}, record.study.finished_numbers()
    for path in sorted(record.study.work_folder.glob("trial-*.jsonl")):
        events, sound = read_events(path)
        number = int(path.stem.removeprefix("trial-"))
        told = has_ended(events)
        if number in over and not told:
            yield _mendable(
                study=record.study.name,
                found=f"the journal {path} is damaged: trial {number} had ended, and its last epochs are lost",
                fix=fix,
            )
        elif sound < path.stat().st_size:
            yield Finding(
                study=record.study.name,
                found=f"the journal {path} has a line that is cut short or damaged; what follows it is not used",
                fixed=False,
                hint=f"harness sweep --study {record.study.name}: the trial goes on from what is sound",
            )
        if told:
            epochs = sum(isinstance(event, EpochDone) for event in events)
            mended = any(isinstance(event, Ended) and event.mended is not None for event in events)
            damaged = ", its journal was damaged" if mended else ""
            ended[number] = f"{epochs} epochs{damaged}"
    if fix:
        record.uploader().close()
    for number, what in ended.items():
        yield _mendable(
            study=record.study.name,
            found=f"trial {number} had ended, and its record ({what}) was not in MLflow",
            fix=fix,
        )


def _orphaned_runs(record: Record, status: RunStatus, fix: bool) -> Iterator[Finding]:
    study = record.study
    for run, state in record.end_orphaned_runs() if fix else record.orphans():
        yield _mendable(
            study=study.name,
            found=f"the run of trial {run.trial_number} ({run.run_id}) was RUNNING; its trial is {state}",
            fix=fix,
        )
    if status != RunStatus.RUNNING or study.counts().running or study.has_live_sweep():
        return
    short = study.targets is not None and study.counts().finished < study.targets.n_trials
    yield _mendable(
        study=study.name, found="the study's run was RUNNING, and no process is at work on it", fix=fix
    )
    if fix:
        record.conclude(StudyState.INTERRUPTED if short else StudyState.COMPLETE)


def _unknown_runs(tracker: Tracker, known: set[str], fix: bool) -> Iterator[Finding]:
    for run in tracker.runs.running(Kind.STUDY, Kind.TRIAL):
        study = run.study
        if study is None or study in known:
            continue
        yield _mendable(
            study=study,
            found=f"run {run.run_id} was RUNNING, and Optuna knows no study {study!r}",
            fix=fix,
        )
        if fix:
            tracker.runs.end_dead(run.run_id, "its study is not in Optuna's storage")


def _comparisons(tracker: Tracker, work_root: Path, fix: bool) -> Iterator[Finding]:
    """Runs of comparisons that nobody is at work on; the same harness compare goes on with what they lack."""
    for run in tracker.runs.running(Kind.COMPARISON, Kind.REPEAT):
        if run.comparison is None:
            continue
        lock = comparison_lock(work_root, run.comparison)
        if lock.path.exists() and not lock.acquire(wait=False):
            continue
        lock.release(remove=True)
        yield _mendable(
            study=None, found=f"the run {run.run_id} of a comparison was RUNNING, and no process is at it", fix=fix
        )
        if fix:
            tracker.runs.end_dead(run.run_id, "no process was at work on the comparison")
