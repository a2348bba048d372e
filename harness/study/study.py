"""A study that is worked on: it is made or continued, its trials are claimed, its choice is stored."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.halving import HALVING, HALVING_KEY, NEW, Step, next_step, rungs_of
from harness.core.journal import find_journals
from harness.core.known import KnownTrials
from harness.core.names import WorkerId
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import StudySpec
from harness.core.space import Params
from harness.core.study_record import Budget, Conclusion, Confirmation, StudyContext, Targets, reachable
from harness.core.trial_rows import TrialCounts, TrialRow
from harness.study.attributes import (
    BEGUN_KEY,
    CONCLUSION_KEY,
    CONFIRMATION_KEY,
    TARGETS_KEY,
    StudyFault,
)
from harness.study.claim import Claim
from harness.study.confirming import enqueue_repeats
from harness.study.continuing import direction_of, make_or_check
from harness.study.listing import check_exists, read_record
from harness.study.locking import make_trial_locks
from harness.study.overview import delete_study
from harness.study.queries import read_contenders
from harness.study.requeueing import LockedStudy
from harness.study.samplers import first_epoch, make_pruner, make_sampler
from harness.study.suggesting import suggest


class Study(LockedStudy):
    """A study whose trials this process runs, or whose record it changes."""

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, work_folder: Path, worker_id: WorkerId | None = None
    ) -> None:
        super().__init__(study, storage, work_folder, worker_id)
        self.is_new = False  # whether this object has made the study
        self.finds_journals = False  # whether that found journals of an earlier one, whose database was lost
        study.pruner = make_pruner(self.spec.pruner, self.spec.epochs)
        self._rungs = rungs_of(self.spec.epochs, self.spec.folds) if self.spec.pruner == HALVING else ()

    @classmethod
    def open(cls, storage: RDBStorage, name: str, work_folder: Path, worker_id: WorkerId | None = None) -> Study:
        """Open an existing study; `worker_id` is the id of this process if it runs trials.

        Raises StudyError, with the existing names, if there is no study of that name.
        """
        cls.check_exists(storage, name)
        return cls(optuna.load_study(study_name=name, storage=storage), storage, work_folder, worker_id)

    check_exists = staticmethod(check_exists)

    @classmethod
    def create(
        cls,
        storage: RDBStorage,
        spec: StudySpec,
        context: StudyContext,
        work_folder: Path,
        worker_id: WorkerId | None = None,
        first_trial: Params | None = None,
        known: KnownTrials | None = None,
    ) -> Study:
        """Open the study of that name, or make it; `first_trial` has the parameters of its first trial.

        `known` are trials of others that the search of a new study is told.

        Raises StudyError if it exists with other settings, in another experiment, or with other known trials.
        """
        with make_trial_locks(storage, spec.name, work_folder, WorkerId()).study_lock():
            study = optuna.create_study(
                study_name=spec.name, storage=storage, direction=direction_of(spec), load_if_exists=True
            )
            record = read_record(storage, study._study_id)
            make_or_check(study, record, spec, context, first_trial, known)
        made = cls(study, storage, work_folder, worker_id)
        made.is_new = isinstance(record, StudyFault)
        made.finds_journals = made.is_new and bool(find_journals(work_folder))
        return made

    def forget(self) -> None:
        """Delete the study if this object has made it and no trial of it runs or has ended.

        A study on a database server stays: another machine may be about to run it.
        """
        if not self.is_new or self.is_shared:
            return
        with self._locks.study_lock():
            counts = self.counts()
            if self.is_alone() and counts.total == counts.waiting:
                delete_study(self._storage, self.name)
                if not self.finds_journals:
                    shutil.rmtree(self.work_folder, ignore_errors=True)

    def set_targets(self, targets: Targets, *, keeps: bool) -> None:
        """Store the targets of a sweep that begins, for workers that join from elsewhere (see `Targets.after`).

        `keeps`: whether the sweep was told how many checkpoints to keep.
        """
        with self._locks.study_lock():
            earlier, counts = self.targets, self.counts()
            is_alone = self.is_alone() and not counts.running
            found = targets.after(earlier, finished=counts.finished, is_alone=is_alone, keeps=keeps)
            if found != earlier:
                self._study.set_user_attr(TARGETS_KEY, asdict(found))

    def claim(self, budget: Budget) -> Claim | None:
        """Claim the next trial, a waiting one first.

        Return None if running, finished and failed trials use up the budget, or if the search has stalled. A
        trial that waits is run in any case: it was begun before. With successive halving one that pauses waits for
        its turn (see `next_step`), and all that were begun use up the budget.
        """
        # Before the lock is taken: the first time, Optuna reads every trial of the study.
        is_stalled = self._stall_of(self._trials(), budget) is not None
        with self._locks.study_lock():
            self._recover()
            counts = self.counts()
            wanted = reachable(self.spec, counts, budget.n_trials)
            if counts.failed >= budget.max_failures:
                return None
            step = self._next_step(counts, wanted, is_stalled=is_stalled)
            if step is None:
                return None
            number = counts.total if step.number is None else step.number
            self._study.sampler = make_sampler(self.spec, number, self.known)
            trial = self._begin(step)
            assert trial.number == number
            lock = self._locks.take(number, trial._trial_id)
        before = self._study._storage.get_trial(trial._trial_id)
        if not self.spec.space:  # a trial without parameters does not show by them that it was begun
            trial.set_user_attr(BEGUN_KEY, True)
        return Claim(
            number=number,
            params=suggest(trial, self.spec.space),
            resumed=bool(before.params) or BEGUN_KEY in before.user_attrs,
            moved=lock.moved,
            _study=self._study,
            _trial=trial,
            _lock=lock,
            _last_step=max(before.intermediate_values, default=0),
            _first_epoch=first_epoch(self.spec.pruner, self.spec.epochs, self.spec.folds),
            _pruner=self.spec.pruner,
            _objective=self.spec.objective,
            _rungs=self._rungs,
            _halving=step.halving,
        )

    def _next_step(self, counts: TrialCounts, wanted: int, *, is_stalled: bool) -> Step | None:
        """Return what to do next, None for nothing. The caller has the study's lock."""
        if self._rungs:
            if counts.finished >= wanted:
                return None
            found = read_contenders(self._storage, self._study._study_id)
            # One that was handed over here, and is not in MLflow yet, is for this machine alone.
            contenders = [
                replace(each, state="waiting", is_sent=False)
                if each.state == "running" and self._locks.is_handed_over(each.number)
                else each
                for each in found
            ]
            targets = self.targets  # another sweep may want more trials than this one
            most = 0 if targets is None else targets.n_trials
            return next_step(contenders, len(self._rungs), wanted=wanted, most=most, objective=self.spec.objective)
        if counts.finished + counts.running >= wanted or (is_stalled and not counts.waiting):
            return None
        return Step(min(self._in_state(TrialState.WAITING), default=None), NEW)

    def _begin(self, step: Step) -> optuna.Trial:
        """Set a trial to RUNNING, and return it. The caller has the study's lock."""
        if not self._rungs:
            return self._study.ask()  # takes the first one that waits
        storage = self._study._storage
        if step.number is None:
            trial_id = storage.create_new_trial(self._study._study_id)
        else:
            found = self._find(step.number)[step.number]
            trial_id = found.id
            if found.state == "RUNNING":  # handed over, see `_next_step`
                self._requeue(step.number, trial_id)
            # Before the state: a trial whose process is killed in between is one that was interrupted.
            storage.set_trial_user_attr(trial_id, HALVING_KEY, step.halving.as_json())
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        # As `ask` does: the sampler reads the trials anew.
        self._study._thread_local.cached_all_trials = None
        return optuna.Trial(self._study, trial_id)

    def accept_stall(self) -> None:
        """Lower the target to the trials that have finished, so that the study counts as complete."""
        with self._locks.study_lock():
            targets = self.targets
            if targets is not None:
                lowered = replace(targets, n_trials=self.counts().finished)
                self._study.set_user_attr(TARGETS_KEY, asdict(lowered))

    def set_confirmation(self, confirmation: Confirmation) -> None:
        """Store the confirmation of the study's best trials in place of an earlier one."""
        with self._locks.study_lock():
            self._study.set_user_attr(CONFIRMATION_KEY, confirmation.as_json())

    @property
    def conclusion(self) -> Conclusion | None:
        """The end of the study that MLflow has; None if it has none that can be read."""
        try:
            return checked(Conclusion(**self._study.user_attrs[CONCLUSION_KEY]))
        except UNREADABLE:
            return None

    def note_conclusion(self, conclusion: Conclusion) -> None:
        """Store what the study's end in MLflow was written for. The caller has the study's lock."""
        self._study.set_user_attr(CONCLUSION_KEY, asdict(conclusion))

    def enqueue(self, rows: Sequence[TrialRow]) -> None:
        """Add a waiting trial for each of these trials of the study that this one confirms, once for each."""
        with self._locks.study_lock():
            enqueue_repeats(self._study, rows)
