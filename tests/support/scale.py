"""Large stores without training: rows inserted into the tables of Optuna and MLflow, thousands a second.

python -m tests.support.scale FOLDER STUDIES TRIALS, to measure commands on such stores (`FOLDER/mlruns`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.store.tracking.dbmodels import models as mlflow_models
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from optuna.storages._rdb import models as optuna_models
from optuna.study import StudyDirection
from optuna.trial import TrialState

from harness.core.names import new_name
from harness.core.records import EpochMetrics, StudySpec
from harness.core.study_record import Targets
from harness.study import open_storage
from harness.study.database import Database
from harness.tracking import Kind, StudyState, Tracker
from harness.tracking.tags import YES, Tag, study_tags
from tests.support.stores import Stores
from tests.support.studies import CONTEXT, SPEC

BEGAN = datetime(2026, 1, 31, 12, 0, 0)
BATCHES = (16, 32, 64, 128)
LR = distribution_to_json(FloatDistribution(1e-5, 1e-1, log=True))
BATCH_SIZE = distribution_to_json(CategoricalDistribution(BATCHES))
Rows = list[dict[str, Any]]


@dataclass
class Statements:
    """The statements that all engines of this process have sent, and whether one began with a write lock."""

    sent: list[str] = field(default_factory=list)

    @property
    def write_locks(self) -> int:
        return sum(statement.startswith("BEGIN IMMEDIATE") for statement in self.sent)


@contextmanager
def counted_statements() -> Iterator[Statements]:
    """Collect the statements that Optuna, MLflow and the harness send to databases meanwhile."""
    found = Statements()

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.sent.append(statement)

    def noting(database: Database, statement: str) -> list[tuple[Any, ...]]:
        found.sent.append(statement)
        return rows(database, statement)

    rows = Database.rows
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "rows", noting)
            yield found
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def accuracy(trial: int) -> float:
    """A made-up accuracy of a trial; the best one of many is that of trial 7."""
    return 0.9 if trial == 7 else 0.2 + 0.001 * (trial * 37 % 500)


def fabricate(stores: Stores, studies: int, trials: int) -> list[StudySpec]:
    """Add complete studies to both stores, each with so many complete trials, and return their specs."""
    specs = [replace(SPEC, name=f"large-{studies}x{trials}-{number:03d}") for number in range(studies)]
    identities = {spec.name: new_name() for spec in specs}
    _fill_optuna(stores, specs, identities, trials)
    _fill_mlflow(stores, specs, identities, trials)
    return specs


def _fill_optuna(stores: Stores, specs: list[StudySpec], identities: dict[str, str], trials: int) -> None:
    storage = open_storage(stores.storage)
    with storage.engine.begin() as connection:
        study = _largest(connection, optuna_models.StudyModel.study_id)
        first = _largest(connection, optuna_models.TrialModel.trial_id)
        for spec in specs:
            study += 1
            context = replace(CONTEXT, identity=identities[spec.name]).as_json()
            targets = asdict(Targets(n_trials=trials, attempts=3, keep=None))
            attributes = {"context": context, "spec": spec.frozen_settings(), "targets": targets}
            _insert(connection, optuna_models.StudyModel, [{"study_id": study, "study_name": spec.name}])
            maximize = {"study_id": study, "direction": StudyDirection.MAXIMIZE, "objective": 0}
            _insert(connection, optuna_models.StudyDirectionModel, [maximize])
            rows = [{"study_id": study, "key": k, "value_json": json.dumps(v)} for k, v in attributes.items()]
            _insert(connection, optuna_models.StudyUserAttributeModel, rows)
            _add_trials(connection, study, first + 1, trials)
            first += trials
    storage.engine.dispose()


def _largest(connection: sqlalchemy.Connection, column: Any) -> int:
    found: int | None = connection.execute(sqlalchemy.select(sqlalchemy.func.max(column))).scalar_one()
    return found or 0


def _add_trials(connection: sqlalchemy.Connection, study: int, first: int, trials: int) -> None:
    rows: dict[Any, Rows] = {}
    for number in range(trials):
        trial, began = {"trial_id": first + number}, BEGAN + timedelta(seconds=10 * number)
        best = EpochMetrics(3, 1.0, 0.5, accuracy(number), 0.1)
        result = json.dumps({"best": asdict(best), "reason": None})
        times = {"datetime_start": began, "datetime_complete": began + timedelta(seconds=9)}
        about = {"study_id": study, "number": number, "state": TrialState.COMPLETE, **times}
        finite = optuna_models.TrialValueModel.TrialValueType.FINITE
        known = {"objective": 0, "value": accuracy(number), "value_type": finite}
        lr = {"param_name": "lr", "param_value": 10 ** -(1 + number % 40 / 10), "distribution_json": LR}
        batch = {"param_name": "batch_size", "param_value": number % 4, "distribution_json": BATCH_SIZE}
        for model, row in (
            (optuna_models.TrialModel, about),
            (optuna_models.TrialValueModel, known),
            (optuna_models.TrialParamModel, lr),
            (optuna_models.TrialParamModel, batch),
            (optuna_models.TrialUserAttributeModel, {"key": "result", "value_json": result}),
        ):
            rows.setdefault(model, []).append({**trial, **row})
    for model, found in rows.items():
        _insert(connection, model, found)


def _fill_mlflow(stores: Stores, specs: list[StudySpec], identities: dict[str, str], trials: int) -> None:
    tracker = Tracker(stores.tracking)
    experiment = int(tracker.experiment_id(SPEC.experiment))
    with tracker.client._tracking_client.store.engine.begin() as connection:
        for spec in specs:
            tags: dict[str, str] = {
                Tag.STUDY_STATE: StudyState.COMPLETE,
                Tag.STUDY_IDENTITY: identities[spec.name],
                Tag.WHOLE: YES,
            }
            parent = new_name()
            _add_runs(connection, experiment, [(parent, study_tags(spec, Kind.STUDY) | tags, {})])
            shared = study_tags(spec, Kind.TRIAL) | {Tag.PARENT_ID: parent, Tag.TRIAL_STATE: "complete"}
            runs = [
                (new_name(), {**shared, Tag.TRIAL: str(number)}, {"best_val_accuracy": accuracy(number)})
                for number in range(trials)
            ]
            _add_runs(connection, experiment, runs)
    tracker.close()


def _add_runs(
    connection: sqlalchemy.Connection,
    experiment: int,
    runs: list[tuple[str, dict[str, str], dict[str, float]]],
) -> None:
    began = int(BEGAN.replace(tzinfo=UTC).timestamp() * 1000)
    about = {"status": "FINISHED", "lifecycle_stage": "active", "experiment_id": experiment, "start_time": began}
    rows = [
        {
            "run_uuid": run,
            "name": "made up",
            "user_id": "nobody",
            "end_time": began + 9000,
            "artifact_uri": "file:///none",
            **about,
        }
        for run, _, _ in runs
    ]
    tags = [{"run_uuid": run, "key": str(k), "value": str(v)} for run, found, _ in runs for k, v in found.items()]
    params = [{"run_uuid": run, "key": f"param {n}", "value": "1"} for run, _, _ in runs for n in range(10)]
    metrics = [
        {"run_uuid": run, "key": k, "value": v, "timestamp": began, "step": 0, "is_nan": False}
        for run, _, found in runs
        for k, v in found.items()
    ]
    _insert(connection, mlflow_models.SqlRun, rows)
    _insert(connection, mlflow_models.SqlTag, tags)
    _insert(connection, mlflow_models.SqlParam, params)
    _insert(connection, mlflow_models.SqlLatestMetric, metrics)


def _insert(connection: sqlalchemy.Connection, model: Any, rows: Rows) -> None:
    if rows:
        connection.execute(sqlalchemy.insert(model.__table__), rows)


if __name__ == "__main__":
    runs = Path(sys.argv[1]).absolute() / "mlruns"
    fabricate(
        Stores(f"sqlite:///{runs}/optuna.db", f"sqlite:///{runs}/mlflow.db"), int(sys.argv[2]), int(sys.argv[3])
    )
