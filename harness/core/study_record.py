"""What a study keeps beside its trials: where its data lie, what its last sweep asked for, and its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.core.json_types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The data set of a study as MLflow shows it: its name, its folder, and how many tracks and genres it has."""

    name: str
    folder: str
    tracks: int
    genres: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """What a study was made with beyond its settings; Optuna and MLflow have it alike.

    `identity` tells the study from an earlier one of the same name. `model_source` is the code of a model from a
    file as it was, since the file may change; None for a model of the package.
    """

    experiment: str
    identity: str
    dataset: DatasetInfo
    synthetic: bool
    model_source: str | None = None

    def as_json(self) -> JsonObject:
        """Return the record as a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> StudyContext:
        """Rebuild a context from its JSON form."""
        return cls(**{**recorded, "dataset": DatasetInfo(**recorded["dataset"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the last sweep of a study asked for, which workers that join must know.

    `n_trials` is the total number of finished trials, `attempts` how often a trial's worker may die, `keep` the
    number of checkpoints that are kept (None: all).
    """

    n_trials: int
    attempts: int
    keep: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """When a study is over: at `n_trials` finished trials, or at `max_failures` failed ones."""

    n_trials: int
    max_failures: int
