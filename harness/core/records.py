"""What packages exchange: a split, what a training takes and gives, a study's settings. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from harness.core.json_types import JsonObject
from harness.core.names import derive_seed, digest_of
from harness.core.objective import ACCURACY, Objective
from harness.core.recorded import checked
from harness.core.space import Params, Space, Value, space_from_json, space_to_json

Representation = Literal["features", "pictures", "both"]
Precision = Literal["fp32", "bf16"]
DEFAULT_EPOCHS = 30  # the report's
GRID = "grid"  # the sampler whose trials are the points of a grid
MAX_MEMBERS = 50  # of an ensemble
MAX_STACK = 1024  # seats of a stack
SYNTHETIC = "the data are SYNTHETIC: these figures say nothing about real data"
SCHEDULE_LENGTH = "schedule_length"  # the hyperparameter with the share of the epochs that a schedule takes
CONFIG_FIELDS = ("model", "epochs", "seed", "threads", "precision")  # of TrialConfig, besides the hyperparameters
OPTIONAL_FIELDS = ("last_epoch", "stack")  # likewise, and on record only where they are set
# Other names that a trial has in MLflow's params or in trials.csv: no hyperparameter may have one of them.
TAKEN_NAMES = (
    *OPTIONAL_FIELDS,
    *("sampler", "pruner", "folds", "split", "columns", "columns_count", "search", "trial_seed"),
    *("number", "state", "val_accuracy", "val_loss", "best_epoch", "reason", "objective"),
    *("started", "ended", "seconds", "run_id"),
)
TrialState = Literal["running", "complete", "pruned", "diverged", "interrupted", "paused", "failed"]
UNFINISHED: tuple[TrialState, ...] = ("interrupted", "paused")  # a trial in one of these is gone on with


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Train, validation and test tracks, each a sorted tuple of track ids.

    `name` says how the split was made (`stratified, seed 0`). `drawn` is True if the split was drawn from a seed,
    so that another seed gives another split; it is False for a split read from lists. `excluded` names listed
    tracks that the data set cannot supply, each with the reason.
    """

    name: str
    drawn: bool
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Split:
        """Rebuild a split from its JSON form; raises one of UNREADABLE for any other content."""
        lists = {part: tuple(recorded[part]) for part in ("train", "valid", "test", "excluded")}
        return checked(cls(name=recorded["name"], drawn=recorded["drawn"], **lists))

    @property
    def digest(self) -> str:
        """SHA-256 of the three lists of ids: equal exactly if all three parts are equal."""
        return digest_of({"train": self.train, "valid": self.valid, "test": self.test})

    def merged(self) -> Split:
        """Return the split with the validation part added to the train part, as a refit uses it."""
        return replace(self, train=tuple(sorted(self.train + self.valid)), valid=())

    def without_test(self) -> Split:
        """Return the split with an empty test part, for the workers of a sweep."""
        return replace(self, test=())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """Everything that determines the result of a training run, and nothing else.

    `params` has the hyperparameters that were set or searched; all others have their defaults. `seed` is the
    trial's, derived from the study's seed and the trial's number. `threads` is the number of intra-op threads; it
    changes the last digits of sums. `epochs` is the most that are trained. The learning rate's schedule takes them
    all, or the share of them that the hyperparameter `schedule_length` names; the training ends with it, or
    earlier after `last_epoch`. `stack` is the number of seats of the stack that it was trained in, None if it was
    trained by itself; it changes the last digits too.
    """

    model: str
    params: Params
    epochs: int
    seed: int
    threads: int
    precision: Precision = "fp32"
    last_epoch: int | None = None
    stack: int | None = None

    @property
    def end(self) -> int:
        """The epoch after which the training ends."""
        return self.schedule_epochs if self.last_epoch is None else self.last_epoch

    @property
    def schedule_epochs(self) -> int:
        """The epochs that the schedule of the learning rate takes, from 1."""
        has_schedule = self.params.get("schedule", "constant") != "constant"
        share = self.params.get(SCHEDULE_LENGTH, 1) if has_schedule else 1
        return max(1, int(self.epochs * float(share) + 0.5))

    def as_dict(self) -> dict[str, Value]:
        """Return the JSON form: a flat mapping with the hyperparameters beside the other fields."""
        rest: dict[str, Value] = {name: getattr(self, name) for name in CONFIG_FIELDS}
        optional = {name: getattr(self, name) for name in OPTIONAL_FIELDS}
        rest |= {name: value for name, value in optional.items() if value is not None}
        return {**self.params, **rest}

    @classmethod
    def of(cls, recorded: Mapping[str, Value]) -> TrialConfig:
        """Return the configuration of a JSON form that `as_dict` made; raises one of UNREADABLE for any other."""
        rest: Any = {name: recorded[name] for name in CONFIG_FIELDS}
        rest |= {name: recorded.get(name) for name in OPTIONAL_FIELDS}
        return checked(cls(params={name: value for name, value in recorded.items() if name not in rest}, **rest))


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The metrics of an epoch: mean train loss, mean validation loss, validation accuracy in [0, 1], seconds.

    A training without a validation part has neither validation loss nor accuracy. `own` has the validation metrics
    of a model with a loss of its own, which has no accuracy. `gpu` has those of the GPU by metric: none of a CPU.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    own: Mapping[str, float] = field(default_factory=dict)
    gpu: Mapping[str, float] = field(default_factory=dict)

    def better_than(self, other: EpochMetrics | None, objective: Objective = ACCURACY) -> bool:
        """Return True if this epoch has the better value, or on a tie the lower validation loss.

        Without validation the later epoch counts as the better one.
        """
        if other is None:
            return True
        mine, theirs = objective.of(self), objective.of(other)
        if mine is None or theirs is None:
            return True
        assert self.val_loss is not None
        assert other.val_loss is not None
        return (objective.order(mine), self.val_loss) < (objective.order(theirs), other.val_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """How a trial ended; `best` is the epoch of the objective's value and of the stored checkpoint.

    With several folds, `best` is the best epoch of the mean curve, and `folds` has the validation accuracy of each
    fold at that epoch. It is empty for a trial with one validation part. `rung` is that at which a trial pauses.
    """

    state: TrialState
    best: EpochMetrics | None
    reason: str | None = None
    folds: tuple[float, ...] = ()
    rung: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the trial is not gone on with."""
        return self.state not in UNFINISHED

    @property
    def has_finished(self) -> bool:
        """Whether the trial has trained to an end: its own, or that of a pruner."""
        return self.state in ("complete", "pruned")


def fold_round(confirms: str | None) -> int:
    """Return which folds a study trains on: those of a search (0), or the fresh ones of a confirmation (1)."""
    return 0 if confirms is None else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """The settings of a study. A sweep can add trials to a study only if all of them agree (`frozen_settings`)."""

    name: str
    experiment: str
    model: str
    data_digest: str
    split_name: str
    split_digest: str
    columns: tuple[str, ...]
    epochs: int
    seed: int
    space: Space
    fixed: Params
    sampler: str
    pruner: str
    precision: Precision
    source_digest: str | None = None  # SHA-256 of the model's file, None for a model of the package
    folds: int = 1  # a trial trains on each; 1: on the split's own train and validation part
    # Of a refit, which trains on both parts together and validates on nothing; None for a search.
    last_epoch: int | None = None
    refit_of: str | None = None  # the study whose best setting a refit trains
    confirms: str | None = None  # the study whose best trials a confirmation repeats, on folds of another round
    nested_in: str | None = None  # the compared study whose search this one repeats, on an outer split
    goal: str = str(ACCURACY)  # the objective as text

    @property
    def objective(self) -> Objective:
        """What the search looks for."""
        return Objective.of_text(self.goal)

    @property
    def part_of(self) -> str | None:
        """The study that this one is a part of: its refit, its confirmation, or a nested search; None for none."""
        return self.refit_of or self.confirms or self.nested_in

    @property
    def is_search(self) -> bool:
        """Whether the trials are those of a search, and not of a refit or a confirmation."""
        return self.refit_of is None and self.confirms is None

    @property
    def fold_round(self) -> int:
        """Which folds the trials train on: those of the search (0), or the fresh ones of a confirmation (1)."""
        return fold_round(self.confirms)

    @property
    def covers_all(self) -> bool:
        """Whether the trials are the points of a grid, each tried once."""
        return self.sampler == GRID

    @property
    def is_refit(self) -> bool:
        """Whether the trials are networks of one setting, trained on train and validation part together."""
        return self.refit_of is not None

    def trial_config(self, number: int, params: Params, threads: int, stack: int | None = None) -> TrialConfig:
        """Return the configuration of a trial on so many threads, in a stack or by itself; its seed is derived."""
        return TrialConfig(
            model=self.model,
            params={**self.fixed, **params},
            epochs=self.epochs,
            seed=derive_seed(self.seed, "trial", number),
            threads=threads,
            precision=self.precision,
            last_epoch=self.last_epoch,
            stack=stack,
        )

    def frozen_settings(self) -> JsonObject:
        """Return the settings that a sweep must share with the study that it continues, in their JSON form."""
        names = [each.name for each in fields(self) if each.name not in ("name", "experiment", "space")]
        everything = {name: getattr(self, name) for name in names} | {"space": space_to_json(self.space)}
        settings: JsonObject = json.loads(json.dumps(everything))
        return settings

    @classmethod
    def of(cls, name: str, experiment: str, frozen_settings: Mapping[str, Any]) -> StudySpec:
        """Return the spec of the settings that `frozen_settings` made; raises one of UNREADABLE for any others."""
        space = space_from_json(frozen_settings["space"])
        rest = {**frozen_settings, "space": space, "columns": tuple(frozen_settings["columns"])}
        return checked(cls(name=name, experiment=experiment, **rest))
