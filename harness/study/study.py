"""A study: who takes the next trial, who gives back those of the dead, and what the trials came to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.attempts import Deaths
from harness.core.errors import StudyError
from harness.core.files import sqlite_path
from harness.core.json_types import JsonObject
from harness.core.records import StudySpec, TrialCounts, TrialResult, TrialRow, WorkerId
from harness.core.space import Choice, Params, Range, Space, Value
from harness.core.study_record import Budget, StudyContext, Targets
from harness.study.claim import Claim
from harness.study.locks import FileTrialLocks, LeasedTrialLocks
from harness.study.overview import (
    CONTEXT_KEY,
    DEATHS_KEY,
    RESULT_KEY,
    SPEC_KEY,
    TARGETS_KEY,
    count_trials,
    trial_result,
    trial_row,
)
from harness.study.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler


class Study:
    """An Optuna study that the harness made: its spec, its trials, and the next one to run."""

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, work_folder: Path, worker_id: WorkerId | None = None
    ) -> None:
        attributes = study.user_attrs
        if SPEC_KEY not in attributes:
            raise StudyError(
                f"study {study.study_name!r} was not made by harness, or never finished being made",
                expected="a study that harness sweep made",
                hint=f"harness delete {study.study_name} --yes, or --study NEW",
            )
        self._study = study
        self.worker_id = worker_id or WorkerId()
        self._locks = make_trial_locks(storage, study.study_name, work_folder, self.worker_id)
        self.storage_url = str(storage.engine.url)  # its password, if any, as three stars
        self.work_folder = work_folder
        self.name = study.study_name
        self.context = StudyContext.of(attributes[CONTEXT_KEY])
        self.spec = StudySpec.of(self.name, self.context.experiment, attributes[SPEC_KEY])
        study.pruner = make_pruner(self.spec.pruner, self.spec.epochs)

    @classmethod
    def open(cls, storage: RDBStorage, name: str, work_folder: Path, worker_id: WorkerId | None = None) -> Study:
        """Open an existing study, as `worker_id` where this process is to run trials.

        Raises StudyError where there is none of that name, naming those there are.
        """
        cls.check_exists(storage, name)
        return cls(optuna.load_study(study_name=name, storage=storage), storage, work_folder, worker_id)

    @staticmethod
    def check_exists(storage: RDBStorage, name: str) -> None:
        """Raise StudyError where there is no study of that name, naming those there are."""
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
        """Open the study of that name, or make it; `first_trial` is the setting of its first trial.

        Raises StudyError where it exists with other frozen settings, or in another experiment.
        """
        with make_trial_locks(storage, spec.name, work_folder, WorkerId()).study_lock():
            study = optuna.create_study(
                study_name=spec.name, storage=storage, direction="maximize", load_if_exists=True
            )
            if SPEC_KEY in study.user_attrs:
                made_in = {"experiment": study.user_attrs[CONTEXT_KEY]["experiment"]}
                _check_same(spec, {**made_in, **study.user_attrs[SPEC_KEY]})
            else:
                study.set_user_attr(CONTEXT_KEY, context.as_json())
                starts = first_trial is not None and not SAMPLERS[spec.sampler].covers_all
                if starts and not study.get_trials(deepcopy=False):
                    study.enqueue_trial(dict(first_trial or {}))
                study.set_user_attr(SPEC_KEY, spec.frozen_settings())  # last: with it the study is whole
        return cls(study, storage, work_folder, worker_id)

    @property
    def is_shared(self) -> bool:
        """Whether other machines may work on this study: it lives on a database server."""
        return isinstance(self._locks, LeasedTrialLocks)

    @property
    def targets(self) -> Targets | None:
        """What the last sweep of the study asked for, None before the first."""
        found = self._study.user_attrs.get(TARGETS_KEY)
        return None if found is None else Targets(**found)

    def set_targets(self, targets: Targets) -> None:
        """Put on record what this sweep asks for, for workers that join from elsewhere."""
        if targets != self.targets:
            self._study.set_user_attr(TARGETS_KEY, asdict(targets))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process of the study, wherever it runs, from claiming, giving back or concluding."""
        with self._locks.study_lock():
            yield

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Be the sweep whose dead workers' trials nobody else gives back."""
        self._locks.register_sweep()
        try:
            yield
        finally:
            self._locks.unregister_sweep()

    @property
    def sweep_lock_path(self) -> Path:
        """The lock file that this sweep holds while it is registered."""
        return self._locks.sweep_lock_path

    def claim(self, budget: Budget) -> Claim | None:
        """Take the next trial, a waiting one first; None where those that run or have ended use up the budget."""
        with self._locks.study_lock():
            trials = self._recover()
            counts = count_trials(trials)
            if counts.finished + counts.running >= budget.n_trials or counts.failed >= budget.max_failures:
                return None
            waiting = next((t.number for t in trials if t.state == TrialState.WAITING), None)
            number = len(trials) if waiting is None else waiting
            self._study.sampler = make_sampler(self.spec.sampler, self.spec.seed, number, self.spec.space)
            trial = self._study.ask()
            assert trial.number == number
            hold = self._locks.take(number, trial._trial_id)
        before = self._study._storage.get_trial(trial._trial_id)
        return Claim(
            number=number,
            params=_suggest(trial, self.spec.space),
            resumed=bool(before.params),
            moved=hold.moved,
            _study=self._study,
            _trial=trial,
            _lock=hold,
            _last_step=max(before.intermediate_values, default=0),
            _first_epoch=PRUNERS[self.spec.pruner].first_epoch(self.spec.epochs),
        )

    def is_over(self, budget: Budget) -> bool:
        """Return True if no trial will be claimed any more: all are finished, or too many have failed."""
        counts = self.counts()
        return counts.finished >= budget.n_trials or counts.failed >= budget.max_failures

    def _recover(self) -> list[FrozenTrial]:
        """Give back the trials that were abandoned, and return all trials; under the study's lock."""
        trials = self._study.get_trials(deepcopy=False)
        running = {t.number: t._trial_id for t in trials if t.state == TrialState.RUNNING}
        abandoned = self._locks.abandoned(running)
        for number in abandoned:
            self._give_back(trials[number])
        return self._study.get_trials(deepcopy=False) if abandoned else trials

    def _give_back(self, trial: FrozenTrial) -> None:
        # Read again: its worker may have ended it between our reading and its letting go.
        if self._study._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
            self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._locks.clear_lock(trial.number, trial._trial_id)

    def recover(self) -> list[int]:
        """Give back the trials whose worker is dead, and return their numbers: a sweep starts and ends so."""
        with self._locks.study_lock():
            running = [t.number for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
            trials = self._recover()
            return [number for number in running if trials[number].state == TrialState.WAITING]

    def stale(self) -> list[int]:
        """Return the trials that are RUNNING and run by nobody; nothing is written."""
        with self._locks.study_lock(create=False):
            free = {t.number for t in self._running() if not self._locks.is_running(t.number, t._trial_id)}
        # A worker tells Optuna how its trial ended before it releases the lock: read again, what ended is gone.
        return [trial.number for trial in self._running() if trial.number in free]

    def _running(self) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]

    def has_live_sweep(self) -> bool:
        """Say whether a live sweep of this machine is at work on the study."""
        return self._locks.has_live_sweep()

    def trial_of_worker(self, worker: str) -> int | None:
        """Return the number of the trial that a worker of this machine held when it died, None for none."""
        return self._locks.trial_of_worker(worker)

    def requeue_or_fail(
        self, number: int, new_epoch: int, attempts: int, give_up: Callable[[Deaths], str] = lambda _: ""
    ) -> None:
        """Requeue the trial of a dead worker, or end it as FAIL after `attempts` deaths without a new epoch.

        `new_epoch` is the last new epoch of the worker that died, 0 for none (see `Deaths`). `give_up` is called
        before the trial is ended, and returns the reason. A trial that has ended, or that another machine has
        taken meanwhile, is left as it is.
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
        """Say whether this machine's journal of a trial is the one that counts; False for no trial at all."""
        trials = self._study.get_trials(deepcopy=False)
        return number < len(trials) and self._locks.owns_upload(trials[number]._trial_id)

    def is_final(self, number: int) -> bool:
        """Say whether no other machine can still be about to send the record of a trial that has ended."""
        return self._locks.is_final(self._trial(number)._trial_id)

    def is_sweep_alive(self, sweep: str) -> bool:
        """Say whether a sweep of this machine, named in a journal, is alive."""
        return self._locks.is_sweep_alive(sweep)

    def is_alone(self) -> bool:
        """Say whether no other sweep of this machine is at work on the study."""
        return not self._locks.has_live_sweep(besides=self.worker_id.sweep)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def result(self, number: int) -> TrialResult:
        """Return how a trial that has ended did so."""
        return trial_result(self._trial(number))

    def finished_numbers(self) -> list[int]:
        """Return the numbers of the trials that have ended."""
        return [row.number for row in self.rows() if row.state in ("COMPLETE", "PRUNED", "FAIL")]

    def counts(self) -> TrialCounts:
        """Count the trials by state."""
        return count_trials(self._study.get_trials(deepcopy=False))

    def rows(self) -> list[TrialRow]:
        """Return every trial, in the order of their numbers."""
        return [trial_row(trial) for trial in self._study.get_trials(deepcopy=False)]

    def ranked(self) -> list[TrialRow]:
        """Return the complete trials, the one of highest validation accuracy first (of equals, the earlier)."""
        complete = [row for row in self.rows() if row.state == "COMPLETE"]
        return sorted(complete, key=lambda row: (-(row.val_accuracy or 0.0), row.number))

    def best(self) -> TrialRow | None:
        """Return the first of the ranked trials, or None."""
        return next(iter(self.ranked()), None)

    def importances(self) -> dict[str, float]:
        """Return each parameter's share of the accuracy's variance (fANOVA), empty where it cannot be told.

        Source: Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter
        importance, as Optuna implements it, with a fixed seed.
        """
        complete = self.ranked()
        if (
            len({row.val_accuracy for row in complete}) < 2
            or len({tuple(row.params.items()) for row in complete}) < 2
        ):
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)


def make_trial_locks(storage: RDBStorage, study: str, work_folder: Path, worker_id: WorkerId) -> FileTrialLocks:
    """Return what tells who runs which trial: lock files beside an SQLite file, leases on a database server."""
    if sqlite_path(str(storage.engine.url)) is not None:
        return FileTrialLocks(work_folder, worker_id)
    return LeasedTrialLocks(work_folder, worker_id, storage.engine, study)


@contextmanager
def no_running_trials(storage: RDBStorage, name: str, work_folder: Path) -> Iterator[None]:
    """TrialLock the study's lock while no live process runs one of its trials.

    Raises StudyError where one does.
    """
    holds = make_trial_locks(storage, name, work_folder, WorkerId())
    with holds.study_lock():
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING and holds.is_running(trial.number, trial._trial_id):
                raise StudyError(f"study {name!r} is running in another process", hint="stop it first (Ctrl-C)")
        yield


def _suggest(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    """Ask the sampler for every parameter that is used in this trial; a condition comes after what it is about."""
    params: dict[str, Value] = {}
    for name, distribution in space.items():
        if distribution.when is not None and not distribution.when.holds(params):
            continue
        match distribution:
            case Range(low=low, high=high, log=log, integer=True):
                params[name] = trial.suggest_int(name, round(low), round(high), log=log)
            case Range(low=low, high=high, log=log):
                params[name] = trial.suggest_float(name, low, high, log=log)
            case Choice(values=values):
                params[name] = cast(Value, trial.suggest_categorical(name, values))
    return params


def _check_same(spec: StudySpec, recorded: JsonObject) -> None:
    wanted = {"experiment": spec.experiment, **spec.frozen_settings()}
    differences = [
        f"{key}: the study has {_short(recorded.get(key))}, this sweep {_short(value)}"
        for key, value in wanted.items()
        if recorded.get(key) != value
    ]
    if differences:
        raise StudyError(
            f"study {spec.name!r} was made with other settings:\n  " + "\n  ".join(differences),
            expected="to continue a study with the settings it was made with",
            hint="the same command with --study NEW, for a study of its own",
        )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} of them"
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:20]}...{text[-8:]}"
