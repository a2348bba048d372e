"""The records that travel between rooms: frozen, standard library only."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

from harness.core.json_types import JsonObject
from harness.core.space import Params, Space, Value, space_from_json, space_to_json

Representation = Literal["features", "pictures"]
Precision = Literal["fp32", "bf16"]
CONFIG_FIELDS = ("model", "epochs", "seed", "threads", "precision")  # of TrialConfig, besides the hyperparameters
TrialState = Literal["running", "complete", "pruned", "diverged", "interrupted", "failed"]


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same on every machine (64 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**32) that follows from `seed` and the names, and from nothing else."""
    return int(digest_of([seed, *names])[:8], 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Train, validation and test tracks, each a sorted tuple of track ids.

    `name` says how the split came about (`stratified, seed 0`). `drawn` says that it was drawn from a seed and can
    be drawn again from another, which lists cannot. `excluded` names listed tracks that this data set cannot
    supply, with the reason.
    """

    name: str
    drawn: bool
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Split:
        """Rebuild a split from its JSON form."""
        lists = {part: tuple(recorded[part]) for part in ("train", "valid", "test", "excluded")}
        return cls(name=recorded["name"], drawn=recorded["drawn"], **lists)

    @property
    def digest(self) -> str:
        """SHA-256 of the three lists of ids: equal exactly when the same tracks fall on the same sides."""
        return digest_of({"train": self.train, "valid": self.valid, "test": self.test})

    def without_test(self) -> Split:
        """Return the split with an empty test part: what the worker of a sweep gets."""
        return replace(self, test=())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """Everything that determines a training run, and nothing else.

    `params` holds the hyperparameters that were set or searched; any other has its default. `seed` is the trial's
    own, derived from the study's seed and the trial's number. `threads` is the number of intra-op threads, which
    changes sums in the last digit.
    """

    model: str
    params: Params
    epochs: int
    seed: int
    threads: int
    precision: Precision = "fp32"

    def as_dict(self) -> dict[str, Value]:
        """Return the fields as a flat JSON-able mapping: the hyperparameters beside the rest."""
        rest: dict[str, Value] = {name: getattr(self, name) for name in CONFIG_FIELDS}
        return {**self.params, **rest}

    @classmethod
    def of(cls, recorded: Mapping[str, Value]) -> TrialConfig:
        """Rebuild a configuration that `as_dict` gave."""
        rest: Any = {name: recorded[name] for name in CONFIG_FIELDS}
        return cls(params={k: v for k, v in recorded.items() if k not in CONFIG_FIELDS}, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One row of a comparison, trained anew for each repeat: a study's best configuration, or a reference.

    `config` is the best trial's (its seed is replaced in each repeat), None for a reference; `seed` is the
    study's: candidates of the same seed get the same seed in the same repeat. `source_digest` is that of the file
    which a model from outside the package comes from.
    """

    name: str
    study: str | None
    model: str
    representation: Representation
    columns: tuple[str, ...]
    seed: int
    config: TrialConfig | None
    source_digest: str | None = None

    def identity(self) -> JsonObject:
        """Return what determines the repeats, as a JSON-able mapping.

        Not what it is called beside others, nor the threads: those are the machine's.
        """
        found = asdict(self)
        del found["name"]
        if found["config"] is not None:
            del found["config"]["threads"]
        return found


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One finished epoch: mean train loss, mean validation loss, validation accuracy in [0, 1], seconds."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float

    def better_than(self, other: EpochMetrics | None) -> bool:
        """Say whether this epoch is the better one: higher accuracy, on a tie the lower validation loss."""
        if other is None:
            return True
        return (self.val_accuracy, -self.val_loss) > (other.val_accuracy, -other.val_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """How a trial ended; `best` is the epoch that gives the objective's value and the stored checkpoint."""

    state: TrialState
    best: EpochMetrics | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a study is: two sweeps that agree in all of this may add trials to one another."""

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
    source_digest: str | None = None  # of the file that the model comes from, if it does

    def frozen_settings(self) -> JsonObject:
        """Return what must agree for a study to be continued, as a JSON-able mapping."""
        names = [field.name for field in fields(self) if field.name not in ("name", "experiment", "space")]
        everything = {name: getattr(self, name) for name in names} | {"space": space_to_json(self.space)}
        settings: JsonObject = json.loads(json.dumps(everything))
        return settings

    @classmethod
    def of(cls, name: str, experiment: str, frozen_settings: Mapping[str, Any]) -> StudySpec:
        """Rebuild a spec from what `frozen_settings` gave."""
        space = space_from_json(frozen_settings["space"])
        rest = {**frozen_settings, "space": space, "columns": tuple(frozen_settings["columns"])}
        return cls(name=name, experiment=experiment, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCounts:
    """How many trials of a study stand where."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def finished(self) -> int:
        """Complete and pruned trials: what `--trials` counts."""
        return self.complete + self.pruned


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial as the search knows it; times are local, seconds are wall time."""

    number: int
    state: str
    params: Params
    val_accuracy: float | None
    val_loss: float | None
    best_epoch: int | None
    started: datetime | None
    ended: datetime | None
    reason: str | None

    @property
    def seconds(self) -> float | None:
        """Wall time from the (last) start to the end."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A process that takes part in a study: its own name, and that of the sweep that it belongs to."""

    sweep: str = ""
    worker: str = ""


def new_name() -> str:
    """Return a name that no other process has."""
    return uuid.uuid4().hex
