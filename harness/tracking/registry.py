"""Register an exported network in MLflow as a pyfunc model: one code file and one pt2 file, without pickle."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking.client import translated
from harness.tracking.tags import Tag
from harness.tracking.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types.schema import AnyType

CODE_FILE = Path(__file__).with_name("pyfunc_model.py")
ALIAS = "champion"
NETWORK_TAG = "network"  # of a version: the SHA-256 of the weights
PICTURE_COLUMN = "picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version in the registry; `uri` names it by its alias; `reused`: it was registered before."""

    name: str
    version: str
    uri: str
    reused: bool


def register(
    tracker: Tracker,
    run_id: str,
    *,
    pt2: Path,
    example: pd.DataFrame,
    genres: Sequence[str],
    network: str,
) -> Registered:
    """Register a run's network as `<experiment>-<model>` with the alias `champion`.

    `example` is an input table of one or two rows, `network` the SHA-256 of the weights. If the run already has a
    version of this network, that version gets the alias, and no second one is made.
    """
    client = tracker.client
    with translated(f"registering the model of run {run_id}", tracker.uri):
        run = client.get_run(run_id)
        name = (
            f"{client.get_experiment(run.info.experiment_id).name}-{run.data.tags[Tag.MODEL].rpartition(':')[2]}"
        )
        found = _version_of(client, name, run_id, network)
        chosen = found or _add_version(client, run, name, pt2, example, genres, network)
        client.set_registered_model_alias(name, ALIAS, chosen.version)
    return Registered(
        name=name,
        version=str(chosen.version),
        uri=f"models:/{name}@{ALIAS}",
        reused=found is not None,
    )


def _version_of(client: MlflowClient, name: str, run_id: str, network: str) -> ModelVersion | None:
    # The run of a refit has another network once its ensemble has grown.
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    ready = [found for found in versions if found.status == "READY" and found.tags.get(NETWORK_TAG) == network]
    return max(ready, key=lambda found: int(found.version), default=None)


def _add_version(
    client: MlflowClient,
    run: Any,
    name: str,
    pt2: Path,
    example: pd.DataFrame,
    genres: Sequence[str],
    network: str,
) -> ModelVersion:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    run_id = run.info.run_id
    logged = client.create_logged_model(
        run.info.experiment_id, name, source_run_id=run_id, model_type="classifier"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        about = Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        )
        _save(path, about, pt2, example, genres)
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(
            name, description=f"The best {run.data.tags[Tag.MODEL]} by `harness export`."
        )
    # Not models:/ID: MLflow would look that up in the store of its global tracking URI.
    return client.create_model_version(
        name, logged.artifact_location, run_id, tags={NETWORK_TAG: network}, model_id=logged.model_id
    )


def _save(path: Path, about: Model, pt2: Path, example: pd.DataFrame, genres: Sequence[str]) -> None:
    import mlflow

    with warnings.catch_warnings():
        # Warnings of MLflow's modules at their import, and of a newer pandas about MLflow's calls.
        warnings.filterwarnings("ignore", message=r".*Any type hint is inferred as AnyType", category=UserWarning)
        warnings.filterwarnings("ignore", message="Operation with range is deprecated")
        mlflow.pyfunc.save_model(
            path,
            python_model=str(CODE_FILE),
            artifacts={"network": str(pt2)},
            signature=_signature(example, genres),
            input_example=example,
            pip_requirements=_requirements(pictures=PICTURE_COLUMN in example),
            mlflow_model=about,
        )


def _signature(example: pd.DataFrame, genres: Sequence[str]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    outputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "genre_" if "genre" in genres else "genre")]
    outputs += [ColSpec(DataType.double, genre) for genre in genres]
    inputs: list[ColSpec | TensorSpec] = [ColSpec(_type(example[column]), column) for column in example]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _type(values: pd.Series[Any]) -> DataType | AnyType:
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType

    if values.name == PICTURE_COLUMN:
        return DataType.binary
    if values.dtype.kind not in "if":  # categories
        return DataType.string
    # pandas reads a CSV column of whole numbers as integers. MLflow refuses integers for `double`, and for `long`
    # it would refuse the same numbers with a decimal point.
    return AnyType() if values.dtype.kind == "i" else DataType.double  # type: ignore[no-untyped-call]


def _requirements(*, pictures: bool) -> list[str]:
    needed = ["mlflow", "torch", "numpy", "pandas", *(["pillow"] if pictures else [])]
    # A version with a local part, as 2.15.0+cpu, is not in the package index.
    return [f"{package}=={version(package).partition('+')[0]}" for package in needed]
