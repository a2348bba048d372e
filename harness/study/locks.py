"""Who runs which trial, told in a way that outlives the death of anybody involved.

On one machine a lock file tells: the kernel lets go of it when its process dies. Across machines a lease does
(see leases.py), and the lock file still tells at once about the workers of the same machine.

A dead worker's trial is its sweep's to give back while that sweep lives, for it knows how the worker died;
anybody may give back the trial of a worker whose sweep is dead too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import sqlalchemy

from harness.core.files import FileLock
from harness.core.records import WorkerId, new_name
from harness.core.workspace import lasting_name
from harness.study.leases import LEASE_SECONDS, RENEW_SECONDS, Leases, advisory_lock

# Where it exists, the clock that also runs while the machine sleeps: a lease does not wait for that.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

MACHINE_FILE = "place"  # in a study's work folder: the name of the machine, as its leases have it


class TrialLock:
    """A trial in this process's hands, from its claim to its end."""

    moved = False  # whether another place had the trial last

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    @property
    def is_lost(self) -> bool:
        """Whether the trial is known to be another's by now."""
        return False

    def secure(self) -> bool:
        """Say whether the trial is still ours to write."""
        return True

    def release(self) -> None:
        """Let go of the trial: it is over, or given back."""
        self._lock.release(remove=True)

    def leave(self) -> None:
        """Let go as a dying process would: the note of who had the trial stays."""
        self._lock.release()


class LeasedTrialLock(TrialLock):
    """A hold that is renewed in the background, and can be lost."""

    def __init__(self, lock: FileLock, leases: Leases, trial_id: int, worker: str) -> None:
        super().__init__(lock)
        self._leases, self._trial_id, self._worker = leases, trial_id, worker
        self._since = time.clock_gettime(_CLOCK)
        self._lost = False
        self.moved = leases.take(trial_id, worker)
        self._ending = threading.Event()
        threading.Thread(target=self._keep_renewing, name=f"lease {trial_id}", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether the lease is another's, or has not been renewed for so long that it may be."""
        return self._lost or time.clock_gettime(_CLOCK) - self._since > LEASE_SECONDS

    def secure(self) -> bool:
        """Renew the lease now, and say whether it was still ours to renew."""
        asked = time.clock_gettime(_CLOCK)  # the lease runs from when the server answers, which is later
        if not self._lost and self._leases.renew(self._trial_id, self._worker):
            self._since = asked
            return True
        self._lost = True
        return False

    def release(self) -> None:
        """Stop renewing, and let go of the lock file."""
        self._ending.set()
        super().release()

    def leave(self) -> None:
        """Stop renewing; the lease runs on for the sweep that gives the trial back."""
        self._ending.set()
        super().leave()

    def _keep_renewing(self) -> None:
        while not self._ending.wait(RENEW_SECONDS) and not self._lost:
            try:
                self.secure()
            except sqlalchemy.exc.SQLAlchemyError:
                continue  # the database may come back before the lease has run out; is_lost tells when it has


class FileTrialLocks:
    """Holds by lock files, for a study that lives in an SQLite file."""

    def __init__(self, folder: Path, worker_id: WorkerId) -> None:
        self.folder = folder
        self.worker_id = worker_id
        self._claim_lock = FileLock(folder / "claim.lock")
        self._sweep_lock: FileLock | None = None

    def register_sweep(self) -> None:
        """Be the sweep that gives back its dead workers' trials, until this process ends."""
        for path in self.folder.glob("sweep-*.lock"):  # of sweeps that were killed
            lock = FileLock(path)
            if lock.acquire(wait=False):
                lock.release(remove=True)
        self._sweep_lock = self._sweep_lock_of(self.worker_id.sweep)
        self._sweep_lock.acquire()

    @property
    def sweep_lock_path(self) -> Path:
        """The lock file that this sweep holds from `register_sweep` until its process ends."""
        return self._sweep_lock_of(self.worker_id.sweep).path

    def unregister_sweep(self) -> None:
        """Stop being that sweep."""
        if self._sweep_lock is not None:
            self._sweep_lock.release(remove=True)
            self._sweep_lock = None

    def has_live_sweep(self, besides: str = "") -> bool:
        """Say whether a live sweep of this machine, another than `besides`, is at work on the study."""
        own = self._sweep_lock_of(besides).path
        return any(FileLock(path).is_taken() for path in self.folder.glob("sweep-*.lock") if path != own)

    @contextmanager
    def study_lock(self, *, create: bool = True) -> Iterator[None]:
        """Keep every other process from claiming or giving back meanwhile.

        With `create=False` no lock file is made: where there is none, no process has ever claimed a trial.
        """
        self._claim_lock.acquire(create=create)
        try:
            yield
        finally:
            self._claim_lock.release()

    def take(self, number: int, trial_id: int) -> TrialLock:
        """TrialLock a trial; under the study's lock."""
        return TrialLock(self._taken_lock(number))

    def abandoned(self, running: dict[int, int]) -> list[int]:
        """Return which running trials (number: id) are this process's to give back, their workers being dead.

        Under the study's lock.
        """
        return [number for number in running if self._is_abandoned_here(number)]

    def _is_abandoned_here(self, number: int) -> bool:
        lock = self._lock_of(number)
        if not lock.acquire(wait=False):
            return False
        sweep = _read_worker_id(lock).sweep
        ours = self._sweep_lock is not None and sweep == self.worker_id.sweep
        abandoned = ours or not self.is_sweep_alive(sweep)
        lock.release(remove=abandoned)
        return abandoned

    def trial_of_worker(self, worker: str) -> int | None:
        """Return the trial that a worker of this machine holds or held when it died, None for none."""
        for path in self.folder.glob("trial-*.lock"):
            if _read_worker_id(FileLock(path)).worker == worker:
                return int(path.stem.removeprefix("trial-"))
        return None

    def clear_lock(self, number: int, trial_id: int) -> None:
        """Remove what a dead worker of this sweep left of its hold; under the study's lock."""
        self._lock_of(number).path.unlink(missing_ok=True)

    def owns_upload(self, trial_id: int) -> bool:
        """Say whether this place's journal of a trial is the one that counts."""
        return True

    def is_final(self, trial_id: int) -> bool:
        """Say whether no other machine can still be sending a trial's record."""
        return True

    def is_running(self, number: int, trial_id: int) -> bool:
        """Say whether a live process holds a trial, here or anywhere; nothing is changed."""
        return self._lock_of(number).is_taken()

    def is_sweep_alive(self, sweep: str) -> bool:
        """Say whether the sweep of that name is alive; it is one of this machine."""
        return bool(sweep) and self._sweep_lock_of(sweep).is_taken()

    def _taken_lock(self, number: int) -> FileLock:
        lock = self._lock_of(number)
        lock.acquire()
        lock.annotate(json.dumps(asdict(self.worker_id)))
        return lock

    def _lock_of(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number:05d}.lock")

    def _sweep_lock_of(self, sweep: str) -> FileLock:
        return FileLock(self.folder / f"sweep-{sweep}.lock")


class LeasedTrialLocks(FileTrialLocks):
    """Holds by leases, for a study that lives in a PostgreSQL database and is worked on from many machines."""

    def __init__(self, folder: Path, worker_id: WorkerId, engine: sqlalchemy.Engine, study: str) -> None:
        super().__init__(folder, worker_id)
        self._engine, self._study = engine, study
        # A name that no lease has, until a sweep or a worker of this machine needs one that lasts.
        self._is_named = False
        self._name_machine(new_name())

    def _name_machine(self, machine_id: str) -> None:
        self._machine_id = machine_id
        self._leases = Leases(self._engine, self._study, machine_id)

    @property
    def leases(self) -> Leases:
        """The study's leases as this machine sees them, under the name that it has by now."""
        name = "" if self._is_named else FileLock(self.folder / MACHINE_FILE).note()
        if name:
            self._name_machine(name)
            self._is_named = True
        return self._leases

    def register_sweep(self) -> None:
        """Be the sweep that gives back its dead workers' trials, until this process ends."""
        lasting_name(self.folder / MACHINE_FILE)
        super().register_sweep()

    @contextmanager
    def study_lock(self, *, create: bool = True) -> Iterator[None]:
        """Keep every other process, wherever it runs, from claiming or giving back meanwhile."""
        with advisory_lock(self._engine, self._study):
            yield

    def take(self, number: int, trial_id: int) -> TrialLock:
        """TrialLock a trial; under the study's lock."""
        lasting_name(self.folder / MACHINE_FILE)
        worker = self.worker_id.worker or new_name()
        return LeasedTrialLock(self._taken_lock(number), self.leases, trial_id, worker)

    def abandoned(self, running: dict[int, int]) -> list[int]:
        """Return which running trials (number: id) are this process's to give back, their workers being dead.

        Under the study's lock.
        """
        holders = self.leases.holders(list(running.values())) if running else {}
        return [number for number, trial_id in running.items() if self._is_abandoned(number, trial_id, holders)]

    def _is_abandoned(self, number: int, trial_id: int, holders: dict[int, tuple[str, bool]]) -> bool:
        if trial_id not in holders:
            return True  # killed between taking the trial and the lease, both under the study's lock
        place, expired = holders[trial_id]
        if place == self._machine_id and self._lock_of(number).path.exists():
            return self._is_abandoned_here(number)
        return expired and self.leases.reclaim(trial_id)

    def clear_lock(self, number: int, trial_id: int) -> None:
        """Remove what a dead worker of this sweep left of its hold; under the study's lock."""
        super().clear_lock(number, trial_id)
        self.leases.expire(trial_id)

    def owns_upload(self, trial_id: int) -> bool:
        """Say whether this place's journal of a trial is the one that counts, and see that it stays so."""
        return self.leases.secure(trial_id)

    def is_final(self, trial_id: int) -> bool:
        """Say whether no other machine can still be sending a trial's record: its lease has run out."""
        place, expired = self.leases.holders([trial_id]).get(trial_id, ("", True))
        return expired or place == self._machine_id

    def is_running(self, number: int, trial_id: int) -> bool:
        """Say whether a live process holds a trial, here or anywhere; nothing is changed."""
        worker_id = self.leases.holders([trial_id]).get(trial_id)
        if worker_id is None or (worker_id[0] == self._machine_id and self._lock_of(number).path.exists()):
            return super().is_running(number, trial_id)
        return not worker_id[1]


def _read_worker_id(lock: FileLock) -> WorkerId:
    try:
        return WorkerId(**json.loads(lock.note()))
    except (ValueError, TypeError):
        return WorkerId()  # its process died before it had written its name
