"""The records of a study beside its settings: its data set, the targets of its last sweep, its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.core.json_types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The data set of a study as MLflow shows it: name, folder, numbers of tracks and genres, digest."""

    name: str
    folder: str
    tracks: int
    genres: int
    digest: str


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
        """Return the context of a JSON form that `as_json` made."""
        dataset, columns = DatasetInfo(**recorded["dataset"]), tuple(recorded.get("columns", ()))
        return cls(**{**recorded, "dataset": dataset, "columns": columns})


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of the last sweep of a study, for workers that join it from elsewhere.

    `n_trials` is the total number of finished trials. `attempts` is the number of deaths in a row without a new
    epoch after which a trial is given up. `keep` is the number of checkpoints to keep, None for all.
    """

    n_trials: int
    attempts: int
    keep: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits at which a study is over: `n_trials` finished trials or `max_failures` failed ones."""

    n_trials: int
    max_failures: int
