"""A study whose trials are shared out by locks: who works on it, and requeueing the trials of dead workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.attempts import Deaths
from harness.core.names import WorkerId
from harness.study.attributes import DEATHS_KEY, RESULT_KEY
from harness.study.leased_locks import LeasedTrialLocks
from harness.study.locking import make_trial_locks
from harness.study.reading import StudyReader


class LockedStudy(StudyReader):
    """A study with the locks of its trials, as a process of this machine sees and changes them."""

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, work_folder: Path, worker_id: WorkerId | None = None
    ) -> None:
        super().__init__(study, storage)
        self.worker_id = worker_id or WorkerId()
        self.work_folder = work_folder
        self._locks = make_trial_locks(storage, self.name, work_folder, self.worker_id)

    @property
    def is_shared(self) -> bool:
        """Whether other machines may work on this study, because its storage is a database server."""
        return isinstance(self._locks, LeasedTrialLocks)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the study: no other process on any machine claims, requeues or concludes trials meanwhile."""
        with self._locks.study_lock():
            yield

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Register this process as a sweep: only it requeues the trials of its dead workers."""
        self._locks.register_sweep()
        try:
            yield
        finally:
            self._locks.unregister_sweep()

    @property
    def sweep_lock_path(self) -> Path:
        """The lock file of this sweep, locked while the sweep is registered."""
        return self._locks.sweep_lock_path

    def requeue_sent(self, number: int) -> bool:
        """Set a trial that was handed over to WAITING: MLflow has what another machine needs to go on with it.

        Return False if its worker has not handed it over yet; the caller then tries again.
        """
        with self._locks.study_lock():
            found = self._in_state(TrialState.RUNNING).get(number)
            if found is None or not self._locks.owns_upload(found.id):
                return True
            if self._locks.is_handed_over(number):
                return self._requeue(number, found.id)
            return False

    def _recover(self) -> list[int]:
        """Requeue the trials whose workers are dead, and return their numbers. The caller has the study's lock."""
        running = {number: trial.id for number, trial in self._in_state(TrialState.RUNNING).items()}
        return [number for number in self._locks.abandoned(running) if self._requeue(number, running[number])]

    def _requeue(self, number: int, trial_id: int) -> bool:
        # Read again: its worker may have ended it after we read the state and before it released the lock.
        is_running = self._study._storage.get_trial(trial_id).state == TrialState.RUNNING
        if is_running:
            self._study._storage.set_trial_state_values(trial_id, TrialState.WAITING)
        self._locks.clear_lock(number, trial_id)
        return is_running

    def recover(self) -> list[int]:
        """Requeue the trials whose workers are dead and return their numbers, at the start and end of a sweep."""
        with self._locks.study_lock():
            return self._recover()

    def stale(self) -> list[int]:
        """Return the numbers of trials that are RUNNING without a live worker. Nothing is written."""
        with self._locks.study_lock(create=False):
            running = self._in_state(TrialState.RUNNING)
            free = {number for number, trial in running.items() if not self._locks.is_running(number, trial.id)}
        # A worker stores the result before it releases the lock: trials that have just ended are left out here.
        return [number for number in self._in_state(TrialState.RUNNING) if number in free]

    def has_live_sweep(self) -> bool:
        """Return True if a sweep of this machine runs on the study."""
        return self._locks.has_live_sweep()

    def trials_of_worker(self, worker: str) -> list[int]:
        """Return the numbers of the trials that a worker of this machine ran when it died."""
        return self._locks.trials_of_worker(worker)

    def requeue_or_fail(
        self, number: int, new_epoch: int, attempts: int, give_up: Callable[[Deaths], str] = lambda _: ""
    ) -> None:
        """Requeue the trial of a dead worker, or set it to FAIL after `attempts` deaths without a new epoch.

        `new_epoch` is the last new epoch of the dead worker, 0 for none (see `Deaths`). `give_up` is called before
        the trial is set to FAIL, and returns the reason. A trial that has ended, or that another machine has
        taken, stays as it is.
        """
        storage = self._study._storage
        with self._locks.study_lock():
            trial = self._trial(number)
            if trial.state == TrialState.RUNNING and self._locks.owns_upload(trial._trial_id):
                deaths = Deaths(**trial.user_attrs.get(DEATHS_KEY, {})).add(new_epoch)
                storage.set_trial_user_attr(trial._trial_id, DEATHS_KEY, asdict(deaths))
                if deaths.count >= attempts:
                    result = {"best": None, "reason": give_up(deaths)}
                    storage.set_trial_user_attr(trial._trial_id, RESULT_KEY, result)
                    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                else:
                    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            self._locks.clear_lock(number, trial._trial_id)

    def drop_lock(self, number: int) -> None:
        """Remove the lock file of a trial that has ended, if its worker died before it did that."""
        self._locks.drop_lock(number)

    def owns_upload(self, number: int) -> bool:
        """Return True if this machine, and no other, may upload its journal of the trial; False for no trial."""
        found = self._find(number)
        return number in found and self._locks.owns_upload(found[number].id)

    def is_ours(self, number: int) -> bool:
        """Return True if this machine was the last that ran the trial; nothing is written."""
        return self._locks.is_ours(self._find(number)[number].id)

    def is_final(self, number: int) -> bool:
        """Return True if no other machine can still upload the journal of an ended trial."""
        return self._locks.is_final(self._find(number)[number].id)

    def is_sweep_alive(self, sweep: str) -> bool:
        """Return True if the sweep of this machine with that id is alive."""
        return self._locks.is_sweep_alive(sweep)

    def is_alone(self) -> bool:
        """Return True if no other sweep of this machine runs on the study."""
        return not self._locks.has_live_sweep(besides=self.worker_id.sweep)
