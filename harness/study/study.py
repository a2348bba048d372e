"""A study: claiming trials, requeueing the trials of dead workers, results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.attempts import Deaths
from harness.core.errors import StudyError
from harness.core.records import StudySpec, TrialCounts, TrialResult, TrialRow, WorkerId
from harness.core.space import Params
from harness.core.study_record import Budget, StudyContext, Targets
from harness.study.claim import Claim, suggest
from harness.study.continuing import check_same_settings
from harness.study.locking import make_trial_locks
from harness.study.locks import LeasedTrialLocks
from harness.study.overview import (
    CONTEXT_KEY,
    DEATHS_KEY,
    RESULT_KEY,
    SPEC_KEY,
    TARGETS_KEY,
    count_trials,
    parameter_importances,
    trial_result,
    trial_row,
)
from harness.study.samplers import PRUNERS, SAMPLERS, len_of_grid, make_pruner, make_sampler


class Study:
    """An Optuna study that the harness made: its settings and its trials."""

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, work_folder: Path, worker_id: WorkerId | None = None
    ) -> None:
        attributes = study.user_attrs
        if SPEC_KEY not in attributes:
            raise StudyError(
                f"study {study.study_name!r} was not made by harness, or its creation was interrupted",
                expected="a study that harness sweep made",
                hint=f"harness delete {study.study_name} --yes, or --study NEW",
            )
        self._study = study
        self.worker_id = worker_id or WorkerId()
        self._locks = make_trial_locks(storage, study.study_name, work_folder, self.worker_id)
        self.storage_url = str(storage.engine.url)  # with a masked password
        self.work_folder = work_folder
        self.name = study.study_name
        self.context = StudyContext.of(attributes[CONTEXT_KEY])
        self.spec = StudySpec.of(self.name, self.context.experiment, attributes[SPEC_KEY])
        study.pruner = make_pruner(self.spec.pruner, self.spec.epochs)

    @classmethod
    def open(cls, storage: RDBStorage, name: str, work_folder: Path, worker_id: WorkerId | None = None) -> Study:
        """Open an existing study; `worker_id` is the id of this process if it runs trials.

        Raises StudyError, with the existing names, if there is no study of that name.
        """
        cls.check_exists(storage, name)
        return cls(optuna.load_study(study_name=name, storage=storage), storage, work_folder, worker_id)

    @staticmethod
    def check_exists(storage: RDBStorage, name: str) -> None:
        """Raise StudyError, with the existing names, if there is no study of that name."""
        names = sorted(optuna.get_all_study_names(storage))
        if name not in names:
            raise StudyError(
                f"there is no study {name!r}",
                expected=", ".join(names) or "none yet",
                hint="harness status, or harness sweep to make one",
            )

    @classmethod
    def create(
        cls,
        storage: RDBStorage,
        spec: StudySpec,
        context: StudyContext,
        work_folder: Path,
        worker_id: WorkerId | None = None,
        first_trial: Params | None = None,
    ) -> Study:
        """Open the study of that name, or make it; `first_trial` has the parameters of its first trial.

        Raises StudyError if it exists with other settings or in another experiment.
        """
        with make_trial_locks(storage, spec.name, work_folder, WorkerId()).study_lock():
            study = optuna.create_study(
                study_name=spec.name, storage=storage, direction="maximize", load_if_exists=True
            )
            if SPEC_KEY in study.user_attrs:
                made_in = {"experiment": study.user_attrs[CONTEXT_KEY]["experiment"]}
                check_same_settings(spec, {**made_in, **study.user_attrs[SPEC_KEY]})
            else:
                study.set_user_attr(CONTEXT_KEY, context.as_json())
                starts = first_trial is not None and not SAMPLERS[spec.sampler].covers_all
                if starts and not study.get_trials(deepcopy=False):
                    study.enqueue_trial(dict(first_trial or {}))
                study.set_user_attr(SPEC_KEY, spec.frozen_settings())  # last: it marks the study as complete
        return cls(study, storage, work_folder, worker_id)

    @property
    def is_shared(self) -> bool:
        """Whether other machines may work on this study, because its storage is a database server."""
        return isinstance(self._locks, LeasedTrialLocks)

    @property
    def targets(self) -> Targets | None:
        """The targets of the study's last sweep, None before the first."""
        found = self._study.user_attrs.get(TARGETS_KEY)
        return None if found is None else Targets(**found)

    def set_targets(self, targets: Targets) -> None:
        """Store the targets of this sweep, for workers that join from elsewhere."""
        if targets != self.targets:
            self._study.set_user_attr(TARGETS_KEY, asdict(targets))

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

    def claim(self, budget: Budget) -> Claim | None:
        """Claim the next trial, a waiting one first.

        Return None if running, finished and failed trials use up the budget.
        """
        with self._locks.study_lock():
            trials = self._recover()
            counts = count_trials(trials)
            wanted = self._reachable(counts, budget.n_trials)
            if counts.finished + counts.running >= wanted or counts.failed >= budget.max_failures:
                return None
            waiting = next((t.number for t in trials if t.state == TrialState.WAITING), None)
            number = len(trials) if waiting is None else waiting
            self._study.sampler = make_sampler(self.spec.sampler, self.spec.seed, number, self.spec.space)
            trial = self._study.ask()
            assert trial.number == number
            lock = self._locks.take(number, trial._trial_id)
        before = self._study._storage.get_trial(trial._trial_id)
        return Claim(
            number=number,
            params=suggest(trial, self.spec.space),
            resumed=bool(before.params),
            moved=lock.moved,
            _study=self._study,
            _trial=trial,
            _lock=lock,
            _last_step=max(before.intermediate_values, default=0),
            _first_epoch=PRUNERS[self.spec.pruner].first_epoch(self.spec.epochs),
        )

    def is_over(self, budget: Budget) -> bool:
        """Return True if no more trials will be claimed: enough have finished, or too many have failed."""
        counts = self.counts()
        return self.is_complete(budget.n_trials) or counts.failed >= budget.max_failures

    def is_complete(self, n_trials: int) -> bool:
        """Return True if `n_trials` trials have finished, or as many as can."""
        counts = self.counts()
        return counts.finished >= self._reachable(counts, n_trials)

    def _reachable(self, counts: TrialCounts, n_trials: int) -> int:
        """Return how many of `n_trials` can finish. A grid has no other point in place of one that failed."""
        if not SAMPLERS[self.spec.sampler].covers_all:
            return n_trials
        return min(n_trials, len_of_grid(self.spec.space) - counts.failed)

    def _recover(self) -> list[FrozenTrial]:
        """Requeue abandoned trials and return all trials. The caller has the study's lock."""
        trials = self._study.get_trials(deepcopy=False)
        running = {t.number: t._trial_id for t in trials if t.state == TrialState.RUNNING}
        abandoned = self._locks.abandoned(running)
        for number in abandoned:
            self._requeue(trials[number])
        return self._study.get_trials(deepcopy=False) if abandoned else trials

    def _requeue(self, trial: FrozenTrial) -> None:
        # Read again: its worker may have ended it after we read the state and before it released the lock.
        if self._study._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
            self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._locks.clear_lock(trial.number, trial._trial_id)

    def recover(self) -> list[int]:
        """Requeue the trials whose workers are dead and return their numbers, at the start and end of a sweep."""
        with self._locks.study_lock():
            running = [t.number for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
            trials = self._recover()
            return [number for number in running if trials[number].state == TrialState.WAITING]

    def stale(self) -> list[int]:
        """Return the numbers of trials that are RUNNING without a live worker. Nothing is written."""
        with self._locks.study_lock(create=False):
            free = {t.number for t in self._running() if not self._locks.is_running(t.number, t._trial_id)}
        # A worker stores the result before it releases the lock: trials that have just ended are left out here.
        return [trial.number for trial in self._running() if trial.number in free]

    def _running(self) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]

    def has_live_sweep(self) -> bool:
        """Return True if a sweep of this machine runs on the study."""
        return self._locks.has_live_sweep()

    def trial_of_worker(self, worker: str) -> int | None:
        """Return the number of the trial that a worker of this machine ran when it died, None for none."""
        return self._locks.trial_of_worker(worker)

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
            trial = storage.get_trial(self._trial(number)._trial_id)
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

    def owns_upload(self, number: int) -> bool:
        """Return True if this machine, and no other, may upload its journal of the trial; False for no trial."""
        trials = self._study.get_trials(deepcopy=False)
        return number < len(trials) and self._locks.owns_upload(trials[number]._trial_id)

    def is_final(self, number: int) -> bool:
        """Return True if no other machine can still upload the journal of an ended trial."""
        return self._locks.is_final(self._trial(number)._trial_id)

    def is_sweep_alive(self, sweep: str) -> bool:
        """Return True if the sweep of this machine with that id is alive."""
        return self._locks.is_sweep_alive(sweep)

    def is_alone(self) -> bool:
        """Return True if no other sweep of this machine runs on the study."""
        return not self._locks.has_live_sweep(besides=self.worker_id.sweep)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def result(self, number: int) -> TrialResult:
        """Return the result of a trial that has ended."""
        return trial_result(self._trial(number))

    def finished_numbers(self) -> list[int]:
        """Return the numbers of the trials that have ended."""
        return [row.number for row in self.rows() if row.state in ("COMPLETE", "PRUNED", "FAIL")]

    def counts(self) -> TrialCounts:
        """Return the number of trials in each state."""
        return count_trials(self._study.get_trials(deepcopy=False))

    def rows(self) -> list[TrialRow]:
        """Return the rows of all trials, sorted by number."""
        return [trial_row(trial) for trial in self._study.get_trials(deepcopy=False)]

    def ranked(self) -> list[TrialRow]:
        """Return the complete trials, sorted by falling validation accuracy, ties by number."""
        complete = [row for row in self.rows() if row.state == "COMPLETE"]
        return sorted(complete, key=lambda row: (-(row.val_accuracy or 0.0), row.number))

    def best(self) -> TrialRow | None:
        """Return the first of the ranked trials, None if there is none."""
        return next(iter(self.ranked()), None)

    def importances(self) -> dict[str, float]:
        """Return the importance of each parameter (see `parameter_importances`)."""
        return parameter_importances(self._study, self.ranked())
