"""An open MLflow store: its runs, their files, and the runs of studies."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from harness.core.errors import TrackingError
from harness.core.files import make_database, read_only_name, read_only_url, sqlite_path, tables_of
from harness.core.watched import WatchedFile
from harness.tracking.artifact_paths import artifact_folder, check_artifact_paths
from harness.tracking.artifacts import Artifacts
from harness.tracking.client import translated
from harness.tracking.parts import Parts
from harness.tracking.runs import Runs
from harness.tracking.studies import Studies
from harness.tracking.tags import EXPERIMENT_KIND


class Tracker:
    """An MLflow store: `runs`, their files (`artifacts`), the runs of `studies` and their trials.

    `parts` are the confirmations, refits and ensembles of the studies.
    With `read_only` nothing can be written to an SQLite file.
    """

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
            from mlflow import MlflowClient

            watched = None
            if self._database is not None:
                _check_is_no_storage(self._database)
                if not read_only:
                    make_database(self._database, _make_schema)
                check_artifact_paths(self._database)
                uri = read_only_url(self._database) if read_only else uri
                watched = WatchedFile(self._database)
            self.client = MlflowClient(tracking_uri=uri)
            self.client.search_experiments(max_results=1)  # the client connects at its first use: errors show here
        self.close()  # MLflow keeps connections, which may lead to a file that this one has replaced
        self.runs = Runs(self.client, uri, watched)
        self.artifacts = Artifacts(self.client, uri, self._database)
        self.studies = Studies(self.runs, self.artifacts, self.experiment_id)
        self.parts = Parts(self.studies, self.runs, self.artifacts)

    def fetch_resume(self, study: str, identity: str, number: int, folder: Path) -> bool:
        """Download the resume point of a trial to `folder`; return False if MLflow has none.

        The study is found by its name and its identity.
        """
        parents = self.studies.runs_named(study, identity=identity)
        run = self.studies.trial_run(parents[0].run_id, number) if parents else None
        return run is not None and self.artifacts.fetch_resume(run.run_id, folder)

    def close(self) -> None:
        """Close the connections to an SQLite file; the client opens new ones when it is used again."""
        if self._database is not None:
            self.client._tracking_client.store.engine.dispose()

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment; the first use makes it."""
        with translated(f"making the experiment {name!r}"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None:
                return str(experiment.experiment_id)
            location = None  # a server chooses it
            if self._database is not None:
                location = artifact_folder(self._database, name).as_uri()
            return str(self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_KIND))


def _check_is_no_storage(database: Path) -> None:
    """Raise TrackingError for an SQLite file of Optuna: MLflow would make its tables in it."""
    if not database.exists():
        return
    with closing(sqlite3.connect(read_only_name(database), uri=True)) as connection:
        tables = tables_of(connection)
    if {"studies", "trials"} <= tables and "experiments" not in tables:
        raise TrackingError(
            f"{database} is a database of Optuna",
            expected="a database of MLflow, or a file that is not there yet",
            hint="another --tracking-uri; for Optuna's database there is --storage",
        )


def _make_schema(url: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    client.search_experiments()
    # The file is renamed next: no connection to its old name may stay open.
    client._tracking_client.store.engine.dispose()
