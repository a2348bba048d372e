"""Trial locks: which process runs which trial. They stay correct when any process dies.

A lock is a lock file, which the kernel releases when its process dies. Across machines there is a lease as well
(see leased_locks.py).

If a worker dies, its own sweep requeues the trial, because only that sweep knows the exit code. If the sweep is
dead too, any process may requeue it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from harness.core.files import FileLock
from harness.core.names import WorkerId
from harness.core.recorded import whole_number


class TrialLock:
    """The lock of a trial that this process runs, from its claim to its end."""

    moved = False  # whether another machine had the trial last

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the trial."""
        return False

    def secure(self) -> bool:
        """Return True if this process may still write about the trial."""
        return True

    def release(self) -> None:
        """Release the lock and remove its file: the trial has ended or was requeued."""
        self._lock.release(remove=True)

    def leave(self) -> None:
        """Release the lock as a dying process does: its file stays and names the worker."""
        self._lock.release()

    def hand_over(self) -> None:
        """Release the lock of a trial to go on with; its file stays, and names the sweep and no worker."""
        self._lock.annotate(json.dumps(asdict(replace(read_worker_id(self._lock), worker=""))))
        self._lock.release()


class FileTrialLocks:
    """Trial locks by lock files, for a study in an SQLite file."""

    def __init__(self, folder: Path, worker_id: WorkerId) -> None:
        self.folder = folder
        self.worker_id = worker_id
        self._claim_lock = FileLock(folder / "claim.lock")
        self._sweep_lock: FileLock | None = None

    def register_sweep(self) -> None:
        """Register the sweep of this process: it requeues the trials of its dead workers."""
        for path in self.folder.glob("sweep-*.lock"):  # of sweeps that were killed
            lock = FileLock(path)
            if lock.acquire(wait=False):
                lock.release(remove=True)
        self._sweep_lock = self._sweep_lock_of(self.worker_id.sweep)
        self._sweep_lock.acquire()

    @property
    def sweep_lock_path(self) -> Path:
        """The lock file of this sweep, locked from `register_sweep` until its process ends."""
        return self._sweep_lock_of(self.worker_id.sweep).path

    def unregister_sweep(self) -> None:
        """Remove the registration of the sweep."""
        if self._sweep_lock is not None:
            self._sweep_lock.release(remove=True)
            self._sweep_lock = None

    def has_live_sweep(self, besides: str = "") -> bool:
        """Return True if a sweep of this machine other than `besides` runs on the study."""
        own = self._sweep_lock_of(besides).path
        return any(FileLock(path).is_taken() for path in self.folder.glob("sweep-*.lock") if path != own)

    @contextmanager
    def study_lock(self, *, create: bool = True) -> Iterator[None]:
        """Lock the study: no other process claims or requeues trials meanwhile.

        With `create=False` no lock file is made: if there is none, no process has ever claimed a trial.
        """
        self._claim_lock.acquire(create=create)
        try:
            yield
        finally:
            self._claim_lock.release()

    def take(self, number: int, trial_id: int) -> TrialLock:
        """Lock a trial for this process. The caller has the study's lock."""
        return TrialLock(self._taken_lock(number))

    def abandoned(self, running: dict[int, int]) -> list[int]:
        """Return the running trials (number: id) that this process may requeue because their workers are dead.

        The caller has the study's lock.
        """
        return [number for number in running if self._is_abandoned_here(number)]

    def _is_abandoned_here(self, number: int) -> bool:
        lock = self._lock_of(number)
        if not lock.acquire(wait=False):
            return False
        sweep = read_worker_id(lock).sweep
        ours = self._sweep_lock is not None and sweep == self.worker_id.sweep
        abandoned = ours or not self.is_sweep_alive(sweep)
        lock.release(remove=abandoned)
        return abandoned

    def trials_of_worker(self, worker: str) -> list[int]:
        """Return the trials that a worker of this machine runs, or ran when it died: several if it stacks them."""
        locks = sorted(self.folder.glob("trial-*.lock"))
        numbers = [whole_number(path.stem.removeprefix("trial-")) for path in locks]
        return [
            number
            for number, path in zip(numbers, locks, strict=True)
            if number is not None and read_worker_id(FileLock(path)).worker == worker
        ]

    def clear_lock(self, number: int, trial_id: int) -> None:
        """Remove the trial lock of a dead worker of this sweep. The caller has the study's lock."""
        self._lock_of(number).path.unlink(missing_ok=True)

    def drop_lock(self, number: int) -> None:
        """Remove the lock file of a trial that has ended, if its worker died before it did that."""
        lock = self._lock_of(number)
        if lock.acquire(wait=False, create=False):
            lock.release(remove=True)

    def owns_upload(self, trial_id: int) -> bool:
        """Return True if this machine, and no other, may upload its journal of the trial."""
        return True

    def is_ours(self, trial_id: int) -> bool:
        """Return True if this machine was the last that ran the trial."""
        return True

    def is_final(self, trial_id: int) -> bool:
        """Return True if no other machine can still upload the journal of the trial."""
        return True

    def is_running(self, number: int, trial_id: int) -> bool:
        """Return True if a live process on any machine runs the trial. Nothing is changed."""
        return self._lock_of(number).is_taken()

    def is_handed_over(self, number: int) -> bool:
        """Return True if a worker of this machine has handed the trial over, and no process runs it."""
        lock = self._lock_of(number)
        note = read_worker_id(lock)
        return bool(note.sweep) and not note.worker and not lock.is_taken()

    def is_sweep_alive(self, sweep: str) -> bool:
        """Return True if the sweep of this machine with that id is alive."""
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


def read_worker_id(lock: FileLock) -> WorkerId:
    """Return which worker of which sweep has, or had, a trial's lock file."""
    try:
        return WorkerId(**json.loads(lock.note()))
    except (ValueError, TypeError):
        return WorkerId()  # the process died before it had written its id
