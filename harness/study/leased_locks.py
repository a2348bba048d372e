"""Trial locks across machines: a lock file and a lease (see leases.py).

The lease holds for all machines. The lock file still shows at once that a worker of this machine is dead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from harness.core.clock import STEADY_CLOCK
from harness.core.files import FileLock
from harness.core.names import WorkerId, new_name
from harness.core.workspace import lasting_name, recorded_name
from harness.study.leases import LEASE_SECONDS, RENEW_SECONDS, Leases, advisory_lock
from harness.study.locks import FileTrialLocks, TrialLock, read_worker_id

MACHINE_FILE = "place"  # in a study's work folder: the machine id that the leases have


class LeasedTrialLock(TrialLock):
    """A trial lock with a lease, which a thread renews and which can be lost."""

    def __init__(self, lock: FileLock, leases: Leases, trial_id: int, worker: str) -> None:
        super().__init__(lock)
        self._leases, self._trial_id, self._worker = leases, trial_id, worker
        self._since = time.clock_gettime(STEADY_CLOCK)  # a lease expires while the machine sleeps, too
        self._lost = False
        self.moved = leases.take(trial_id, worker)
        self._ending = threading.Event()
        threading.Thread(target=self._keep_renewing, name=f"lease {trial_id}", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether another machine has the lease, or may have it because it was not renewed in time."""
        return self._lost or time.clock_gettime(STEADY_CLOCK) - self._since > LEASE_SECONDS

    def secure(self) -> bool:
        """Renew the lease now; return False if it is lost."""
        started = time.clock_gettime(STEADY_CLOCK)  # the lease begins later, when the server handles the request
        if not self._lost and self._leases.renew(self._trial_id, self._worker):
            self._since = started
            return True
        self._lost = True
        return False

    def release(self) -> None:
        """Stop renewing, release the lock and remove its file."""
        self._ending.set()
        super().release()

    def leave(self) -> None:
        """Stop renewing and release the lock; the lease remains for the sweep that requeues the trial."""
        self._ending.set()
        super().leave()

    def hand_over(self) -> None:
        """Stop renewing and release the lock; the lease remains until MLflow has the trial's resume point."""
        self._ending.set()
        super().hand_over()

    def _keep_renewing(self) -> None:
        while not self._ending.wait(RENEW_SECONDS) and not self._lost:
            try:
                self.secure()
            except sqlalchemy.exc.SQLAlchemyError:
                continue  # the database may come back before the lease expires; see is_lost


class LeasedTrialLocks(FileTrialLocks):
    """Trial locks by lock files and leases, for a study in a PostgreSQL database that many machines use."""

    def __init__(self, folder: Path, worker_id: WorkerId, engine: sqlalchemy.Engine, study: str) -> None:
        super().__init__(folder, worker_id)
        self._engine, self._study = engine, study
        # An id that no lease has, until a sweep or a worker of this machine needs a permanent one.
        self._is_named = False
        self._name_machine(new_name())

    def _name_machine(self, machine_id: str) -> None:
        self._machine_id = machine_id
        self._leases = Leases(self._engine, self._study, machine_id)

    @property
    def leases(self) -> Leases:
        """The study's leases, used with the machine's permanent id if it has one."""
        name = "" if self._is_named else recorded_name(self.folder / MACHINE_FILE)
        if name:
            self._name_machine(name)
            self._is_named = True
        return self._leases

    def register_sweep(self) -> None:
        """Register the sweep of this process: it requeues the trials of its dead workers."""
        lasting_name(self.folder / MACHINE_FILE)
        super().register_sweep()

    @contextmanager
    def study_lock(self, *, create: bool = True) -> Iterator[None]:
        """Lock the study: no other process on any machine claims or requeues trials meanwhile."""
        with advisory_lock(self._engine, self._study):
            yield

    def take(self, number: int, trial_id: int) -> TrialLock:
        """Lock a trial for this process. The caller has the study's lock."""
        lasting_name(self.folder / MACHINE_FILE)
        worker = self.worker_id.worker or new_name()
        return LeasedTrialLock(self._taken_lock(number), self.leases, trial_id, worker)

    def abandoned(self, running: dict[int, int]) -> list[int]:
        """Return the running trials (number: id) that this process may requeue because their workers are dead.

        The caller has the study's lock.
        """
        holders = self.leases.holders(list(running.values())) if running else {}
        return [number for number, trial_id in running.items() if self._is_abandoned(number, trial_id, holders)]

    def _is_abandoned(self, number: int, trial_id: int, holders: dict[int, tuple[str, bool]]) -> bool:
        if trial_id not in holders:
            return True  # killed after taking the trial and before the lease, both under the study's lock
        place, expired = holders[trial_id]
        if place == self._machine_id and self._lock_of(number).path.exists():
            return self._is_abandoned_here(number)
        return expired and self.leases.reclaim(trial_id)

    def clear_lock(self, number: int, trial_id: int) -> None:
        """Remove the trial lock and the lease of a dead worker of this sweep. The caller has the study's lock."""
        super().clear_lock(number, trial_id)
        self.leases.expire(trial_id)

    def owns_upload(self, trial_id: int) -> bool:
        """Return True if this machine, and no other, may upload its journal of the trial; extend its lease."""
        return self.leases.secure(trial_id)

    def is_ours(self, trial_id: int) -> bool:
        """Return True if this machine was the last that ran the trial, or if none has a lease."""
        return self.leases.holders([trial_id]).get(trial_id, (self._machine_id, True))[0] == self._machine_id

    def is_final(self, trial_id: int) -> bool:
        """Return True if no other machine can still upload the journal: it has no lease that is valid."""
        place, expired = self.leases.holders([trial_id]).get(trial_id, ("", True))
        return expired or place == self._machine_id

    def is_running(self, number: int, trial_id: int) -> bool:
        """Return True if a live process on any machine runs the trial. Nothing is changed."""
        lease = self.leases.holders([trial_id]).get(trial_id)
        if lease is None:
            return super().is_running(number, trial_id)
        machine_id, expired = lease
        lock = self._lock_of(number)
        if machine_id == self._machine_id and lock.path.exists():
            waits = self.is_handed_over(number) and self.is_sweep_alive(read_worker_id(lock).sweep)
            return waits or super().is_running(number, trial_id)
        return not expired
