"""The records of a study beside its settings: its data set, the targets of its last sweep, its budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from harness.core.halving import HALVING
from harness.core.json_types import JsonObject
from harness.core.ranking import rank
from harness.core.recorded import checked
from harness.core.records import StudySpec
from harness.core.space import Params, len_of_grid
from harness.core.trial_rows import FINISHED_STATES, TrialCounts, TrialRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The data set of a study as MLflow shows it: name, folder, numbers of tracks and genres, digest.

    `options` are those that the command line gave to read it.
    """

    name: str
    folder: str
    tracks: int
    genres: int
    digest: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """What a study was made with beyond its settings. Optuna and MLflow both have it.

    `identity` differs from that of an earlier study of the same name. `columns` are the feature columns in use,
    none for pictures. `model_source` is the code of a model from a file when the study was made, because the file
    may change; None for a model of the package.
    """

    experiment: str
    identity: str
    dataset: DatasetInfo
    synthetic: bool
    columns: tuple[str, ...]
    model_source: str | None = None

    def as_json(self) -> JsonObject:
        """Return the JSON form of the context."""
        return asdict(self)

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> StudyContext:
        """Return the context of a JSON form that `as_json` made; raises one of UNREADABLE for any other."""
        dataset, columns = checked(DatasetInfo(**recorded["dataset"])), tuple(recorded.get("columns", ()))
        return checked(cls(**{**recorded, "dataset": dataset, "columns": columns}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of the last sweep of a study, for workers that join it from elsewhere.

    `n_trials` is the total number of finished trials. `attempts` is the number of deaths in a row without a new
    epoch after which a trial is given up. `keep` is the number of checkpoints to keep, None for all. `patience` is
    that of the sweep. `confirm` is the number of the best trials that are measured again on fresh folds, None if
    it is not on record.
    """

    n_trials: int
    attempts: int
    keep: int | None
    patience: int | None = None
    confirm: int | None = None

    def after(self, earlier: Targets | None, *, finished: int, is_alone: bool, keeps: bool) -> Targets:
        """Return the study's targets once a sweep with these targets begins; `earlier` are those before it.

        The total does not fall below the trials that have finished, nor, unless the sweep `is_alone`, below what
        another sweep is working for. No sweep removes a checkpoint that an earlier one was to keep: the larger
        `keep` counts, and a sweep that was not told how many to keep (`keeps`) changes nothing.
        """
        if earlier is None:
            return replace(self, n_trials=max(self.n_trials, finished))
        wanted = max(self.n_trials, finished, 0 if is_alone else earlier.n_trials)
        keep = earlier.keep
        if keeps and keep is not None:
            keep = None if self.keep is None else max(self.keep, keep)
        return replace(self, n_trials=wanted, keep=keep)


def reachable(spec: StudySpec, counts: TrialCounts, n_trials: int) -> int:
    """Return how many of `n_trials` trials of a study can finish.

    A grid has no other point in place of one that failed, and a confirmation no other trial to repeat. With
    successive halving every trial that was begun comes to its end: those that pause are the best ones.
    """
    if spec.pruner == HALVING:
        n_trials = max(n_trials, counts.total - counts.failed)
    if spec.confirms is not None:
        return min(n_trials, counts.total - counts.failed)
    if not spec.covers_all:
        return n_trials
    return min(n_trials, len_of_grid(spec.space) - counts.failed)


def trials_left(spec: StudySpec, counts: TrialCounts, n_trials: int) -> int:
    """Return how many of the trials that can finish have not."""
    return max(0, reachable(spec, counts, n_trials) - counts.finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the end of a study was written for, so that the same command again need not write it again.

    `parent` and `best` are the ids of runs: the study's and its best trial's. `runs` is a digest of the ids of the
    trials' runs, `progress` one of their states and times.
    """

    parent: str
    best: str | None
    runs: str
    progress: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedTrial:
    """One of the best trials of a search, measured again on fresh folds and with another seed.

    `search` and `fresh` are its validation accuracies in the search and in the confirmation, `val_loss` is the
    mean of both losses, `epoch` the mean of both best epochs, and `folds` has the accuracies of the folds of both.
    """

    trial: int
    params: Params
    search: float
    fresh: float
    val_loss: float
    epoch: int
    folds: tuple[float, ...]

    @property
    def val_accuracy(self) -> float:
        """The validation accuracy over the folds of both, on which the choice is made."""
        return fmean(self.folds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The confirmation of a study's best trials; it counts as long as the study has `finished` finished trials."""

    finished: int
    trials: tuple[ConfirmedTrial, ...]

    @property
    def chosen(self) -> ConfirmedTrial:
        """The trial with the highest accuracy over all folds; ties by loss, then by number."""
        return min(self.trials, key=lambda found: rank(found.val_accuracy, found.val_loss, found.trial))

    @property
    def flattered_by(self) -> float:
        """By how much the accuracies of the search lie above those of the fresh folds, in the mean."""
        return fmean(trial.search - trial.fresh for trial in self.trials)

    def as_json(self) -> JsonObject:
        """Return the JSON form of the confirmation."""
        return asdict(self)

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Confirmation:
        """Return the confirmation of a JSON form that `as_json` made; raises one of UNREADABLE for any other."""
        trials = tuple(
            checked(ConfirmedTrial(**{**trial, "folds": tuple(trial["folds"])})) for trial in recorded["trials"]
        )
        if not trials or not all(trial.folds for trial in trials):
            raise ValueError("a confirmation without a trial, or a trial without folds")
        return checked(cls(finished=recorded["finished"], trials=trials))


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits at which a study is over: `n_trials` finished trials or `max_failures` failed ones.

    With a `patience` it is also over when so many trials in a row have gained nothing (see `Stall`).
    `valid_tracks` is the number of tracks on which a trial without folds is measured.
    """

    n_trials: int
    max_failures: int
    patience: int | None = None
    valid_tracks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The end of a search by patience: its last `trials` have gained no more than the standard error.

    `gain` is by how much the best accuracy has grown in these trials, `error` the standard error of the best
    accuracy before them.
    """

    trials: int
    gain: float
    error: float

    @classmethod
    def of(cls, rows: Sequence[TrialRow], budget: Budget) -> Stall | None:
        """Return the stall of the trials of a study, None if the search is worth going on."""
        if budget.patience is None:
            return None
        ended = sorted(
            (row for row in rows if row.state in FINISHED_STATES and row.ended is not None),
            key=lambda row: (row.ended, row.number),
        )
        complete = [
            [row for row in part if row.state == "COMPLETE"] for part in (ended[: -budget.patience], ended)
        ]
        if not complete[0]:
            return None
        before, now = (max(part, key=lambda row: row.val_accuracy or 0.0) for part in complete)
        accuracy = before.val_accuracy or 0.0
        error = before.std_error
        if error is None:
            error = math.sqrt(accuracy * (1 - accuracy) / max(1, budget.valid_tracks))
        gain = (now.val_accuracy or 0.0) - accuracy
        return cls(trials=budget.patience, gain=gain, error=error) if gain <= error else None

    def __str__(self) -> str:
        """Return the sentence that messages and the record have."""
        return (
            f"the last {self.trials} trials gained {100 * self.gain:.1f} points, no more than the standard error "
            f"of the best accuracy ({100 * self.error:.1f} points)"
        )
