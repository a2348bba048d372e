"""A client of one MLflow store: experiments, the runs of studies, reading back.

Runs are always named by their id (no "active run" of the fluent API, which would be marked finished at exit
whatever became of it), and every metric point carries its own time and step, so that sending it twice is
the same as sending it once.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # that is where --json goes
# A server that is down is noticed at once: what cannot be sent waits in the journals and is sent again from there.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from harness import __version__
from harness.core.errors import TrackingError
from harness.core.files import make_database, read_only_url, sqlite_path
from harness.core.records import Split, StudySpec
from harness.core.workspace import RESUME_FILE
from harness.tracking.artifact_paths import artifact_folder, check_artifact_paths
from harness.tracking.environment import code_version, environment

for _noisy in ("alembic", "mlflow"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)
# What it would print as a traceback is raised as well, and told in a sentence.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

SPLIT_FILE, CONTEXT_FILE = "split.json", "context.json"
RESUME_FOLDER = "resume"
TAG_LIMIT = 5000  # characters that every MLflow store takes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as it was read back: its tags, params and last metrics.

    `touched` is when it was started or ended, the later of the two, in seconds since 1970.
    """

    run_id: str
    status: str
    touched: float
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


@contextmanager
def translated(doing: str, uri: str = "URL") -> Iterator[None]:
    """Raise what MLflow raises in here as a TrackingError; `uri` is the store's."""
    try:
        yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if "database schema" in str(error):
            raise TrackingError(
                f"MLflow: {doing} failed: its database has the schema of another MLflow",
                expected=f"the schema of MLflow {mlflow.__version__}",
                hint=f"a copy of the database first, then: mlflow db upgrade '{uri}'",
            ) from error
        raise TrackingError(
            f"MLflow: {doing} failed: {lines[0]}",
            expected="a store that can be reached and written, of this MLflow's version",
            hint="the same command again once it can, or another --tracking-uri",
        ) from error


class Tracker:
    """A client of one MLflow store; with `read_only` nothing can be written to an SQLite file."""

    def __init__(self, uri: str, *, create: bool = True, read_only: bool = False) -> None:
        self.uri = uri
        self._database = sqlite_path(uri)
        if self._database is not None and not create and not self._database.exists():
            raise TrackingError(
                f"there is no MLflow store at {self._database}",
                expected="a store that harness sweep made",
                hint="harness sweep first, or --tracking-uri",
            )
        with translated(f"opening the store {uri}", uri):
            if self._database is not None:
                if not read_only:
                    make_database(self._database, _make_schema)
                check_artifact_paths(self._database)
                uri = read_only_url(self._database) if read_only else uri
            self.client = MlflowClient(tracking_uri=uri)
            self.client.search_experiments(max_results=1)  # it would connect, and complain, at its first use

    def close(self) -> None:
        """Close the connections to an SQLite file; the client opens new ones when it is used again."""
        if self._database is not None:
            self.client._tracking_client.store.engine.dispose()

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment, making it on first use."""
        with translated(f"making the experiment {name!r}"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None:
                return str(experiment.experiment_id)
            location = None  # a server's own choice
            if self._database is not None:
                location = artifact_folder(self._database, name).as_uri()
            # The kind decides which pages the UI opens with: training runs, not traces of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self.client.create_experiment(name, artifact_location=location, tags=kind))

    def begin_study(
        self, spec: StudySpec, tags: dict[str, str], description: str, split: Split, context: dict[str, Any]
    ) -> str:
        """Return the id of the study's parent run, made or reopened, with status RUNNING.

        A new one gets the split and `context` as artifacts, from which an export finds its data again. `tags` are
        set before the status: a RUNNING run always says who is at work on it.
        """
        with translated(f"opening the run of study {spec.name!r}"):
            experiment = self.experiment_id(spec.experiment)
            found = self.study_run(spec.name, experiment)
            if found is None:
                about = {**common_tags(spec, "study"), "mlflow.note.content": description}
                about["study_identity"] = context["identity"]
                run = self.client.create_run(experiment, run_name=spec.name, tags={**about, **tags})
                run_id = str(run.info.run_id)
            elif found.tags.get("study_identity", context["identity"]) != context["identity"]:
                raise TrackingError(
                    f"MLflow has the runs of another study {spec.name!r}, which Optuna's storage no longer has",
                    expected="one study of a name in both stores",
                    hint=f"the same command with --study NEW, or, if nobody needs those runs any more, "
                    f"harness delete {spec.name} --yes",
                )
            else:
                run_id = found.run_id
                self.set_tags(run_id, tags)
                self.client.update_run(run_id, status="RUNNING")
            if found is None or found.tags.get("whole") != "yes":  # or its making was cut short
                params = {**study_params(spec), "search": json.dumps(spec.frozen_settings()["space"])}
                self.client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
                self.client.log_dict(run_id, asdict(split), SPLIT_FILE)
                self.client.log_dict(run_id, context, CONTEXT_FILE)
                self.set_tags(run_id, {"whole": "yes"})
            return run_id

    def end_study(self, run_id: str, status: str, metrics: dict[str, float], tags: dict[str, str]) -> None:
        """Give a parent run its figures and its status: FINISHED, KILLED or FAILED."""
        with translated("ending the study's run"):
            self.add_metrics(run_id, metrics)
            self.end_run(run_id, status, tags)

    def end_run(self, run_id: str, status: str, tags: dict[str, str]) -> None:
        """Give a run its status (FINISHED, KILLED or FAILED) and tags that say why."""
        with translated(f"ending run {run_id}"):
            if tags:
                self.set_tags(run_id, tags)
            self.client.set_terminated(run_id, status)

    def add_metrics(self, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Add metric points to a run whatever its status."""
        with translated("adding metrics"):
            now = time.time_ns() // 1_000_000
            points = [Metric(name, value, now, step) for name, value in metrics.items()]
            self.client.log_batch(run_id, metrics=points)

    def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of a run whatever its status."""
        with translated("setting tags"):
            self.client.log_batch(run_id, tags=[RunTag(name, value[:TAG_LIMIT]) for name, value in tags.items()])

    def remove_tag(self, run_id: str, name: str) -> None:
        """Remove a tag of a run, if it has it."""
        with translated("removing a tag"):
            try:
                self.client.delete_tag(run_id, name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise

    def log_files(self, run_id: str, folder: Path, artifact_path: str | None = None) -> None:
        """Store every file of a folder as artifacts of a run."""
        with translated("storing artifacts"):
            self.client.log_artifacts(run_id, str(folder), artifact_path)

    def read_json(self, run_id: str, artifact: str) -> Any:
        """Return a JSON artifact of a run."""
        with translated(f"reading {artifact} of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            return json.loads(Path(self.client.download_artifacts(run_id, artifact, folder)).read_text())

    def download(self, run_id: str, artifact: str, folder: Path) -> Path:
        """Copy an artifact, a file or a folder, into `folder` and return where it lies."""
        with translated(f"reading {artifact} of run {run_id}"):
            return Path(self.client.download_artifacts(run_id, artifact, str(folder)))

    def store_resume(self, run_id: str, folder: Path) -> None:
        """Store the resume checkpoint that lies in `folder` with a run: its tensors, then what names them."""
        try:
            pointer = (folder / RESUME_FILE).read_text()
            name = json.loads(pointer)["file"]
            older = {Path(file.path).name for file in self.client.list_artifacts(run_id, RESUME_FOLDER)}
            self.client.log_artifact(run_id, str(folder / name), RESUME_FOLDER)
        except FileNotFoundError:
            return  # the trial has gone on meanwhile: a newer one is on its way, or it is over
        self.client.log_text(run_id, pointer, f"{RESUME_FOLDER}/{RESUME_FILE}")
        for stale in older - {name, RESUME_FILE}:
            self._remove(run_id, f"{RESUME_FOLDER}/{stale}")

    def fetch_resume(self, study: str, number: int, folder: Path) -> bool:
        """Copy a trial's resume checkpoint into `folder`; False where the record has none."""
        with translated(f"reading the resume checkpoint of trial {number}"):
            found = self.trial_run(study, number)
            if found is None or not self.client.list_artifacts(found.run_id, RESUME_FOLDER):
                return False
            with tempfile.TemporaryDirectory() as name:
                source = Path(self.client.download_artifacts(found.run_id, RESUME_FOLDER, name))
                shutil.copytree(source, folder, dirs_exist_ok=True)
            return True

    def remove_resume(self, run_id: str) -> None:
        """Remove a run's resume checkpoint, if it has one."""
        if self.client.list_artifacts(run_id, RESUME_FOLDER):
            self._remove(run_id, RESUME_FOLDER)

    def _remove(self, run_id: str, artifact: str) -> None:
        uri = self.client.get_run(run_id).info.artifact_uri
        get_artifact_repository(uri, tracking_uri=self.uri).delete_artifacts(artifact)  # type: ignore[no-untyped-call]

    def remove_checkpoint(self, run_id: str) -> None:
        """Remove a run's `checkpoint/`, and say so in its tags."""
        with translated("removing a checkpoint"):
            self._remove(run_id, "checkpoint")
            self.client.set_tag(run_id, "checkpoint", "removed")

    def run(self, run_id: str) -> RunInfo:
        """Read a run back.

        Raises TrackingError where there is none of that id.
        """
        with translated(f"reading run {run_id!r}"):
            try:
                return _record(self.client.get_run(run_id))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        raise TrackingError(
            f"there is no run {run_id!r} in {self.uri}",
            expected="the whole id of a run, 32 characters",
            hint="harness ui, to find one, or another --tracking-uri",
        )

    def epochs(self, run_id: str) -> dict[int, dict[str, float]]:
        """Return the losses and the accuracy of each epoch that a run has on record, the last of each if twice."""
        found: dict[int, dict[str, float]] = {}
        with translated(f"reading the epochs of run {run_id}"):
            for name in ("train_loss", "val_loss", "val_accuracy"):
                for point in self.client.get_metric_history(run_id, name):
                    found.setdefault(point.step, {})[name] = point.value
        return dict(sorted(found.items()))

    def study_run(self, study: str, experiment: str | None = None) -> RunInfo | None:
        """Return the parent run of a study, or None; without `experiment` (an id) every experiment is searched."""
        found = self.search(f"tags.study = '{study}' and tags.kind = 'study'", experiment)
        return found[0] if found else None

    def trial_run(self, study: str, number: int, experiment: str | None = None) -> RunInfo | None:
        """Return the run of one trial, or None; without `experiment` (an id) every experiment is searched."""
        query = f"tags.study = '{study}' and tags.kind = 'trial' and tags.trial = '{number}'"
        found = self.search(query, experiment)
        return found[0] if found else None

    def trial_runs(self, study: str) -> list[RunInfo]:
        """Return the runs of a study's trials, in the order of the trials."""
        found = self.search(f"tags.study = '{study}' and tags.kind = 'trial'")
        return sorted(found, key=lambda record: int(record.tags["trial"]))

    def study_names(self) -> list[str]:
        """Return the names of the studies on record."""
        return sorted(record.tags["study"] for record in self.search("tags.kind = 'study'"))

    def count_test_opening(self, run_id: str) -> int:
        """Put on record that a run is about to see the test part; return how often it has now."""
        openings = int(self.run(run_id).tags.get("test_openings", "0")) + 1
        self.set_tags(run_id, {"test_openings": str(openings)})
        return openings

    def search(self, query: str, experiment: str | None = None, *, deleted: bool = False) -> list[RunInfo]:
        """Return every run that matches an MLflow query, in one experiment (an id) or in all.

        `deleted`: also those that were deleted, which MLflow keeps until it is told to collect garbage.
        """
        kinds = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        with translated("searching runs"):
            ids = [experiment] if experiment else [e.experiment_id for e in self.client.search_experiments()]
            records, token = [], None
            while True:
                page = self.client.search_runs(ids, query, kinds, max_results=1000, page_token=token)
                records += [_record(run) for run in page]
                token = page.token
                if not token:
                    return records

    def delete_study(self, study: str) -> int:
        """Delete the runs of a study with their files; return how many there were."""
        records = self.search(f"tags.study = '{study}'")
        with translated(f"deleting the runs of {study!r}"):
            for record in records:
                uri = self.client.get_run(record.run_id).info.artifact_uri
                self.client.delete_run(record.run_id)
                if urlparse(uri).scheme == "file":
                    shutil.rmtree(Path(unquote(urlparse(uri).path)).parent, ignore_errors=True)
                else:
                    get_artifact_repository(uri, tracking_uri=self.uri).delete_artifacts(".")  # type: ignore[no-untyped-call]
        return len(records)


def study_params(spec: StudySpec) -> dict[str, Any]:
    """Return the params that every run of a study has."""
    return {
        "model": spec.model,
        **spec.fixed,
        "epochs": spec.epochs,
        "seed": spec.seed,
        "sampler": spec.sampler,
        "pruner": spec.pruner,
        "precision": spec.precision,
        "split": spec.split_name,
        "columns": ", ".join(spec.columns) or "none (pictures)",
        "columns_count": len(spec.columns),
    }


def common_tags(spec: StudySpec, kind: str) -> dict[str, str]:
    """Return the tags that every run of a study has; `kind` is `study` or `trial`."""
    return {
        "kind": kind,
        "study": spec.name,
        "model": spec.model,
        "data_digest": spec.data_digest,
        "split_digest": spec.split_digest,
        **who_and_what(),
    }


def who_and_what() -> dict[str, str]:
    """Return the tags that every run has: who made it, and with what."""
    return {"harness_version": __version__, "mlflow.user": _user(), "mlflow.source.name": "harness"}


def code_and_environment() -> dict[str, str]:
    """Return the tags that say what code ran, with what, on what."""
    code = code_version()
    tags = {"environment": json.dumps(environment())}
    if code is not None:
        tags |= {"mlflow.source.git.commit": code[0], "code_dirty": "yes" if code[1] else "no"}
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        return str(os.getuid())


def _record(run: Run) -> RunInfo:
    return RunInfo(
        run_id=run.info.run_id,
        status=RunStatus.to_string(run.info.status) if isinstance(run.info.status, int) else run.info.status,
        touched=max(run.info.start_time or 0, run.info.end_time or 0) / 1000,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def _make_schema(url: str) -> None:
    client = MlflowClient(tracking_uri=url)
    client.search_experiments()
    # The file is about to be renamed: no connection may stay open under its old name.
    client._tracking_client.store.engine.dispose()
