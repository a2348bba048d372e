"""Files of runs: JSON, folders, checkpoints, and resume points, from which another machine may continue."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from harness.core.errors import TrackingError, mask_password
from harness.core.recorded import UNREADABLE
from harness.core.workspace import FOLDS_FILE, RESUME_FILE
from harness.tracking.artifact_paths import is_run_folder, remove_run_folder
from harness.tracking.client import translated
from harness.tracking.tags import REMOVED, Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHECKPOINT_FOLDER, RESUME_FOLDER = "checkpoint", "resume"
INDIRECT = ("runs", "models")  # schemes that name a run or a model, whose files may be anywhere

Record = TypeVar("Record")


class Artifacts:
    """The files of the runs of one MLflow store. `database` is its SQLite file, None for a server."""

    def __init__(self, client: MlflowClient, uri: str, database: Path | None = None) -> None:
        self._client = client
        self._uri = uri
        self._database = database

    def log_files(self, run_id: str, folder: Path, artifact_path: str | None = None) -> None:
        """Upload every file of a folder to a run."""
        with translated("storing artifacts"):
            self._client.log_artifacts(run_id, str(folder), artifact_path)

    def log_json(self, run_id: str, content: Any, artifact: str) -> None:
        """Upload a JSON-able mapping or list to a run as a JSON file."""
        with translated(f"storing {artifact} of run {run_id}"):
            self._client.log_dict(run_id, content, artifact)

    def has(self, run_id: str, artifact: str) -> bool:
        """Return True if the run has a file or a folder of that name at the top level."""
        with translated(f"looking for {artifact} of run {run_id}"):
            return any(file.path == artifact for file in self._client.list_artifacts(run_id))

    def read_record(self, run_id: str, artifact: str, build: Callable[[Any], Record]) -> Record:
        """Return what `build` makes of the content of a JSON file of a run.

        Raises TrackingError if the file is not there, is cut short, or is not what `build` reads.
        """
        with translated(f"reading {artifact} of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            content = Path(self._client.download_artifacts(run_id, artifact, folder)).read_bytes()
        try:
            return build(json.loads(content))
        except UNREADABLE as error:
            raise TrackingError(
                f"{artifact} of run {run_id} is damaged",
                expected="the file as harness wrote it",
                hint="a copy of the file, into the run's artifacts",
            ) from error

    def log_checkpoint(self, run_id: str, folder: Path) -> None:
        """Upload a trial's checkpoint."""
        self.log_files(run_id, folder, CHECKPOINT_FOLDER)

    def download_checkpoint(self, run_id: str, folder: Path) -> Path:
        """Download a run's checkpoint to `folder`, and return its path."""
        with translated(f"reading the checkpoint of run {run_id}"):
            return Path(self._client.download_artifacts(run_id, CHECKPOINT_FOLDER, str(folder)))

    def remove_checkpoint(self, run_id: str) -> None:
        """Remove a run's checkpoint, and record that in its tags."""
        with translated("removing a checkpoint"):
            self._remove(run_id, CHECKPOINT_FOLDER)
            self._client.set_tag(run_id, Tag.CHECKPOINT.value, REMOVED)

    def store_resume(self, run_id: str, folder: Path) -> None:
        """Upload the resume point in `folder` to a run: first its tensors, then the file that names them.

        The curves of the folds that have ended go with it.
        """
        with translated(f"storing the resume point of run {run_id}"):
            if (folder / FOLDS_FILE).is_file():
                self._client.log_artifact(run_id, str(folder / FOLDS_FILE), RESUME_FOLDER)
            try:
                pointer = (folder / RESUME_FILE).read_text(encoding="utf-8")
                name = json.loads(pointer)["file"]
                older = {Path(file.path).name for file in self._client.list_artifacts(run_id, RESUME_FOLDER)}
                self._client.log_artifact(run_id, str(folder / name), RESUME_FOLDER)
            except FileNotFoundError:
                return  # replaced or removed meanwhile: a newer resume point follows, or the trial is over
            self._client.log_text(run_id, pointer, f"{RESUME_FOLDER}/{RESUME_FILE}")
            for stale in older - {name, RESUME_FILE, FOLDS_FILE}:
                self._remove(run_id, f"{RESUME_FOLDER}/{stale}")

    def fetch_resume(self, run_id: str, folder: Path) -> bool:
        """Download a run's resume point to `folder`; return False if it has none."""
        with translated(f"reading the resume point of run {run_id}"):
            if not self._client.list_artifacts(run_id, RESUME_FOLDER):
                return False
            with tempfile.TemporaryDirectory() as name:
                source = Path(self._client.download_artifacts(run_id, RESUME_FOLDER, name))
                shutil.copytree(source, folder, dirs_exist_ok=True)
            return True

    def remove_resume(self, run_id: str) -> None:
        """Remove a run's resume point, if it has one."""
        with translated(f"removing the resume point of run {run_id}"):
            if self._client.list_artifacts(run_id, RESUME_FOLDER):
                self._remove(run_id, RESUME_FOLDER)

    def delete_run(self, run_id: str) -> str | None:
        """Delete a run with its files; return where files are that were not deleted, None if all were.

        A database that others can write, or a server, names the folder of a run's files. On this machine only the
        run's own folder in this store is removed, and nothing at all for a store on a server.
        """
        with translated(f"deleting run {run_id}"):
            info = self._client.get_run(run_id).info
            uri = str(info.artifact_uri)
            self._client.delete_run(run_id)
            if urlsplit(uri).scheme in ("", "file"):
                experiment = self._client.get_experiment(info.experiment_id).name
                own = self._database is not None and remove_run_folder(self._database, experiment, run_id, uri)
                return None if own else mask_password(uri)
            if urlsplit(uri).scheme in INDIRECT or not is_run_folder(uri, run_id):
                return mask_password(uri)
            self._remove(run_id, ".")
            return None

    def _remove(self, run_id: str, artifact: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._client.get_run(run_id).info.artifact_uri
        if urlsplit(uri).scheme in INDIRECT or not is_run_folder(uri, run_id):
            raise TrackingError(
                f"{artifact} of run {run_id} was not removed: the run's files are recorded at {uri!r}",
                expected=f"a folder .../{run_id}/artifacts",
                hint="harness ui, to see who has changed the run",
            )
        get_artifact_repository(uri, tracking_uri=self._uri).delete_artifacts(artifact)  # type: ignore[no-untyped-call]
