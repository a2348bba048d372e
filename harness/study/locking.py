"""The trial locks that fit a study's storage, and a lock for a study without running trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.errors import StudyError
from harness.core.files import sqlite_path
from harness.core.names import WorkerId
from harness.study.leased_locks import LeasedTrialLocks
from harness.study.locks import FileTrialLocks
from harness.study.queries import find_trials


def make_trial_locks(storage: RDBStorage, study: str, work_folder: Path, worker_id: WorkerId) -> FileTrialLocks:
    """Return the trial locks of a study: lock files for SQLite, leases in addition on a database server."""
    if sqlite_path(str(storage.engine.url)) is not None:
        return FileTrialLocks(work_folder, worker_id)
    return LeasedTrialLocks(work_folder, worker_id, storage.engine, study)


@contextmanager
def no_running_trials(storage: RDBStorage, name: str, work_folder: Path) -> Iterator[None]:
    """Lock the study while no live process runs one of its trials.

    Raises StudyError if one does.
    """
    locks = make_trial_locks(storage, name, work_folder, WorkerId())
    with locks.study_lock():
        study_id = storage.get_study_id_from_name(name)
        for number, trial in find_trials(storage, study_id, states=[TrialState.RUNNING]).items():
            if locks.is_running(number, trial.id):
                raise StudyError(f"study {name!r} is running in another process", hint="stop it first (Ctrl-C)")
        yield
