"""A study: its sampler and pruner, the claim of the next trial, the end of each."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.errors import StudyError
from harness.files import FileLock
from harness.models import REPORT_SETTING
from harness.records import EpochMetrics, SearchSpace, StudySpec, TrialCounts, TrialResult, TrialRow, derive_seed
from harness.study.overview import CONTEXT_KEY, RESULT_KEY, SPEC_KEY, count_trials, trial_row

PRUNER_STARTUP_TRIALS = 5
PRUNER_WARMUP = 1 / 3  # of the epochs: before that, slow learners look like bad ones


def _sampler(kind: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial: built anew from (seed, number), so that an interruption changes nothing."""
    own_seed = derive_seed(seed, "sampler", number)
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own_seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "gp":
            return optuna.samplers.GPSampler(seed=own_seed)
        return optuna.samplers.TPESampler(seed=own_seed, multivariate=True, constant_liar=True)


def warmup_epochs(epochs: int) -> int:
    """Return the first epoch at which the median pruner judges."""
    return int(PRUNER_WARMUP * epochs)


def _pruner(kind: str, epochs: int) -> optuna.pruners.BasePruner:
    if kind == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=PRUNER_STARTUP_TRIALS, n_warmup_steps=warmup_epochs(epochs)
    )


@dataclass(slots=True)
class Claim:
    """A trial that this process, and no other, is to run: its number and parameters."""

    number: int
    lr: float
    batch_size: int
    resumed: bool
    _study: optuna.Study
    _trial: optuna.Trial
    _lock: FileLock
    _last_step: int
    _warmup: int

    def keep_going(self, metrics: EpochMetrics) -> bool:
        """Report an epoch's accuracy and return False where the pruner would end the trial here.

        Epochs that an earlier attempt has reported are neither reported nor judged again: the pruner looks
        at the largest step, which such an epoch has yet to reach.
        """
        if isinstance(self._study.pruner, optuna.pruners.NopPruner):
            return True
        if metrics.epoch > self._last_step:
            self._trial.report(metrics.val_accuracy, metrics.epoch)
        if metrics.epoch < max(self._last_step, self._warmup):  # asking the pruner reads the study's trials
            return True
        return not self._trial.should_prune()

    def finish(self, result: TrialResult) -> None:
        """Tell the study how the trial ended: COMPLETE with its best accuracy, PRUNED, FAIL, or WAITING again."""
        if result.state == "interrupted":
            self._study._storage.set_trial_state_values(self._trial._trial_id, TrialState.WAITING)
        else:
            best = None if result.best is None else asdict(result.best)
            self._trial.set_user_attr(RESULT_KEY, {"best": best, "reason": result.reason})
            if result.state == "complete":
                assert result.best is not None
                self._study.tell(self._trial, result.best.val_accuracy)
            else:
                state = TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL
                self._study.tell(self._trial, state=state)
        self._lock.release(remove=True)


class Study:
    """An Optuna study that the harness made: its spec, its trials, and the next one to run."""

    def __init__(self, study: optuna.Study, work_folder: Path) -> None:
        attributes = study.user_attrs
        if SPEC_KEY not in attributes:
            raise StudyError(
                f"study {study.study_name!r} was not made by harness, or never finished being made",
                legal="a study that harness sweep made",
                run=f"harness delete {study.study_name} --yes, or --study NEW",
            )
        self._study = study
        self._claim_lock = FileLock(work_folder / "claim.lock")
        self.work_folder = work_folder
        self.name = study.study_name
        self.spec: dict[str, Any] = attributes[SPEC_KEY]
        self.context: dict[str, Any] = attributes[CONTEXT_KEY]
        study.pruner = _pruner(self.spec["pruner"], self.spec["epochs"])

    @classmethod
    def open(cls, storage: RDBStorage, name: str, work_folder: Path) -> Study:
        """Open an existing study.

        Raises StudyError where there is none of that name, naming those there are.
        """
        cls.check_exists(storage, name)
        return cls(optuna.load_study(study_name=name, storage=storage), work_folder)

    @staticmethod
    def check_exists(storage: RDBStorage, name: str) -> None:
        """Raise StudyError where there is no study of that name, naming those there are."""
        names = sorted(optuna.get_all_study_names(storage))
        if name not in names:
            raise StudyError(
                f"there is no study {name!r}",
                legal=", ".join(names) or "none yet",
                run="harness status, or harness sweep to make one",
            )

    @classmethod
    def create(cls, storage: RDBStorage, spec: StudySpec, context: dict[str, Any], work_folder: Path) -> Study:
        """Open the study of that name, or make it with the report's own setting waiting as its first trial.

        `context` is what the record should know beyond the fingerprint: the data folder, the lists of the split.

        Raises StudyError where it exists with another fingerprint.
        """
        with FileLock(work_folder / "claim.lock"):
            study = optuna.create_study(
                study_name=spec.name, storage=storage, direction="maximize", load_if_exists=True
            )
            if SPEC_KEY in study.user_attrs:
                _check_fingerprint(spec, study.user_attrs[SPEC_KEY])
            else:
                study.set_user_attr(CONTEXT_KEY, context)
                if not study.get_trials(deepcopy=False) and _within(spec.search, REPORT_SETTING):
                    study.enqueue_trial(REPORT_SETTING)
                study.set_user_attr(SPEC_KEY, spec.fingerprint())  # last: with it the study is whole
        return cls(study, work_folder)

    def claim(self, *, total: int, allowed_failures: int) -> Claim | None:
        """Take the next trial, a waiting one first; None where the total is reached or too many have failed."""
        with self._claim_lock:
            trials = self._recover_dead()
            counts = count_trials(trials)
            if counts.finished + counts.running >= total or counts.failed >= allowed_failures:
                return None
            waiting = next((t.number for t in trials if t.state == TrialState.WAITING), None)
            number = len(trials) if waiting is None else waiting
            lock = self._trial_lock(number)
            lock.acquire()
            self._study.sampler = _sampler(self.spec["sampler"], self.spec["seed"], number)
            trial = self._study.ask()
            assert trial.number == number
            search = self.spec["search"]
            before = self._study._storage.get_trial(trial._trial_id)
            return Claim(
                number=number,
                lr=trial.suggest_float("lr", search["lr"]["low"], search["lr"]["high"], log=search["lr"]["log"]),
                batch_size=trial.suggest_categorical("batch_size", search["batch_size"]),
                resumed=bool(before.params),
                _study=self._study,
                _trial=trial,
                _lock=lock,
                _last_step=max(before.intermediate_values, default=0),
                _warmup=warmup_epochs(self.spec["epochs"]),
            )

    def is_over(self, *, total: int, allowed_failures: int) -> bool:
        """Say whether no trial will be claimed any more: the total is finished, or too many have failed."""
        counts = self.counts()
        return counts.finished >= total or counts.failed >= allowed_failures

    def _recover_dead(self) -> list[FrozenTrial]:
        """Give back the trials whose worker is dead, and return all trials."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                lock = self._trial_lock(trial.number)
                if lock.acquire(wait=False):
                    # Read again: its worker may have ended it between our reading and its letting go.
                    if self._study._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
                        self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                    lock.release(remove=True)
        return self._study.get_trials(deepcopy=False)

    def recover(self) -> None:
        """Give back the trials whose worker is dead: what the start of every sweep does."""
        with self._claim_lock:
            self._recover_dead()

    def left_behind(self) -> Iterator[int]:
        """Yield the numbers of trials that are over and held by no process, the lock held meanwhile."""
        with self._claim_lock:
            for row in self.rows():
                if row.state in ("COMPLETE", "PRUNED", "FAIL"):
                    yield row.number

    def _trial_lock(self, number: int) -> FileLock:
        return FileLock(self.work_folder / f"trial-{number:05d}.lock")

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
        if len({row.val_accuracy for row in complete}) < 2 or len({(r.lr, r.batch_size) for r in complete}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)


@contextmanager
def no_running_trials(name: str, work_folder: Path) -> Iterator[None]:
    """Hold the study's lock while no live process runs one of its trials.

    Raises StudyError where one does.
    """
    with FileLock(work_folder / "claim.lock"):
        for lock_path in work_folder.glob("trial-*.lock"):
            lock = FileLock(lock_path)
            if not lock.acquire(wait=False):
                raise StudyError(f"study {name!r} is running in another process", run="stop it first (Ctrl-C)")
            lock.release()
        yield


def _within(search: SearchSpace, setting: dict[str, Any]) -> bool:
    return search.lr.low <= setting["lr"] <= search.lr.high and setting["batch_size"] in search.batch_size


def _check_fingerprint(spec: StudySpec, recorded: dict[str, Any]) -> None:
    wanted = spec.fingerprint()
    differences = [
        f"{key}: the study has {_short(recorded.get(key))}, this sweep {_short(value)}"
        for key, value in wanted.items()
        if recorded.get(key) != value
    ]
    if differences:
        raise StudyError(
            f"study {spec.name!r} was made with other settings:\n  " + "\n  ".join(differences),
            legal="to continue a study with the settings it was made with",
            run="the same command with --study NEW, for a study of its own",
        )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} of them"
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:20]}...{text[-8:]}"
