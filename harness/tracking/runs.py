"""Runs of MLflow: make and end them, write metric points, params and tags, and find and read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.core.clock import now
from harness.core.errors import TrackingError, mask_password
from harness.core.names import is_name, new_name
from harness.core.watched import WatchedFile
from harness.tracking.client import translated
from harness.tracking.run_info import RunInfo
from harness.tracking.tags import GOING_ON, OPENED_PREFIX, TAG_LIMIT, Kind, RunStatus, Tag, Tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 900  # points in one request: MLflow takes 1000 points, params and tags together
EPOCH_FIGURES = ("train_loss", "val_loss", "val_accuracy")


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a metric at a time (ms since 1970) and a step."""

    name: str
    value: float
    time: int
    step: int = 0


class Runs:
    """The runs of one MLflow store. `database` is its SQLite file, None for a server.

    Every method raises TrackingError if the file is no longer in its place: what is written to it would be lost.
    """

    def __init__(self, client: MlflowClient, uri: str, database: WatchedFile | None = None) -> None:
        self._client = client
        self.uri = uri
        self._database = database

    def check_database(self) -> None:
        """Raise TrackingError if the store's SQLite file was removed or replaced since it was opened."""
        if self._database is not None:
            self._database.check("MLflow's", TrackingError)

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        self.check_database()
        with translated(doing):
            yield

    def create(self, experiment: str, name: str, tags: Tags, time: int | None = None) -> str:
        """Make a run in an experiment (an id) with status RUNNING, and return its id; `time` is its start (ms)."""
        with self._calling(f"making the run {name!r}"):
            run = self._client.create_run(experiment, start_time=time or now(), run_name=name, tags=_plain(tags))
            return str(run.info.run_id)

    def get(self, run_id: str) -> RunInfo:
        """Read a run.

        Raises TrackingError if there is no run of that id.
        """
        found = self.lookup(run_id)
        if found is not None:
            return found
        raise TrackingError(
            f"there is no run {run_id!r} in {mask_password(self.uri)}",
            expected="the whole id of a run, 32 characters",
            hint="harness ui, to find one, or another --tracking-uri",
        )

    def lookup(self, run_id: str) -> RunInfo | None:
        """Read a run, which may be a deleted one; return None if there is no run of that id."""
        with self._calling(f"reading run {run_id!r}"):
            from mlflow.exceptions import MlflowException

            try:
                return _info(self._client.get_run(run_id))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        return None

    def under(self, run_id: str) -> list[RunInfo]:
        """Return the child runs of a run."""
        return self.find({Tag.PARENT_ID: run_id})

    def find(
        self,
        tags: Tags,
        *,
        status: RunStatus | None = None,
        experiment: str | None = None,
        deleted: bool = False,
    ) -> list[RunInfo]:
        """Return every run that has these tags (and that status), in one experiment (an id) or in all.

        `deleted`: also deleted runs, and those of deleted experiments, which MLflow keeps until its garbage
        collection (`mlflow gc`).
        """
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        if status is not None:
            conditions.append(f"attributes.status = '{status}'")
        return self._search(" and ".join(conditions), experiment=experiment, deleted=deleted)

    def _search(self, wanted: str, *, experiment: str | None = None, deleted: bool = False) -> list[RunInfo]:
        with self._calling("searching runs"):
            from mlflow.entities import ViewType

            kinds = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
            ids = [experiment] if experiment else [e.experiment_id for e in self._client.search_experiments(kinds)]
            found, token = [], None
            while True:
                page = self._client.search_runs(ids, wanted, kinds, max_results=1000, page_token=token)
                found += [_info(run) for run in page]
                token = page.token
                if not token:
                    return found

    def present(self, run_ids: Sequence[str]) -> set[str]:
        """Return which of these runs are there, and not deleted."""
        found: set[str] = set()
        sound = [run_id for run_id in run_ids if is_name(run_id)]  # a tag can be changed by hand
        for first in range(0, len(sound), 100):
            named = ", ".join(f"'{run_id}'" for run_id in sound[first : first + 100])
            found |= {run.run_id for run in self._search(f"attributes.run_id IN ({named})")}
        return found

    def experiment_named(self, name: str) -> str | None:
        """Return the id of an experiment, None if there is none of that name."""
        with self._calling(f"looking for the experiment {name!r}"):
            found = self._client.get_experiment_by_name(name)
        return None if found is None else str(found.experiment_id)

    def running(self, *kinds: Kind) -> list[RunInfo]:
        """Return the runs of these kinds that have not ended: with status RUNNING, or SCHEDULED."""
        found = [run for status in GOING_ON for run in self.find({}, status=status)]
        return [run for run in found if run.kind in kinds]

    def with_data(self, data_digest: str) -> list[RunInfo]:
        """Return the runs on a data set, including deleted ones."""
        return self.find({Tag.DATA_DIGEST: data_digest}, deleted=True)

    def log(
        self,
        run_id: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, object] | None = None,
        tags: Tags | None = None,
    ) -> None:
        """Write points, params and tags to a run of any status. What is written twice is stored once."""
        with self._calling(f"recording run {run_id}"):
            from mlflow.entities import Metric, Param, RunTag

            metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
            self._client.log_batch(
                run_id,
                metrics=metrics[:BATCH],
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(str(name), text[:TAG_LIMIT]) for name, text in (tags or {}).items()],
            )
            for first in range(BATCH, len(metrics), BATCH):
                self._client.log_batch(run_id, metrics=metrics[first : first + BATCH])

    def add_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Write values of metrics with the present time."""
        time = now()
        self.log(run_id, points=[Point(name, value, time, step) for name, value in metrics.items()])

    def set_status(self, run_id: str, status: RunStatus) -> None:
        """Set the status of a run that has not ended, or that goes on."""
        with self._calling(f"setting the status of run {run_id} to {status}"):
            self._client.update_run(run_id, status=status.value)

    def end(self, run_id: str, status: RunStatus, *, tags: Tags | None = None, time: int | None = None) -> None:
        """Set the tags of a run, then its status and its end time (ms since 1970; now by default)."""
        if tags:
            self.log(run_id, tags=tags)
        with self._calling(f"ending run {run_id}"):
            self._client.set_terminated(run_id, status.value, time or now())

    def end_dead(self, run_id: str, mended: str) -> None:
        """Set the status of a run whose process is dead to KILLED; `mended` says why."""
        self.end(run_id, RunStatus.KILLED, tags={Tag.MENDED: mended})

    def remove_tag(self, run_id: str, name: str) -> None:
        """Remove a tag of a run, if the run has it."""
        with self._calling("removing a tag"):
            from mlflow.exceptions import MlflowException

            try:
                self._client.delete_tag(run_id, name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise

    def steps(self, run_id: str, metric: str) -> frozenset[int]:
        """Return the steps of a metric's points."""
        with self._calling(f"reading {metric} of run {run_id}"):
            return frozenset(point.step for point in self._client.get_metric_history(run_id, metric))

    def epochs(self, run_id: str, own: Sequence[str] = ()) -> dict[int, dict[str, float]]:
        """Return the losses and the accuracy of each recorded epoch; the last value counts if there are two.

        `own` are the metrics of a model with a loss of its own.
        """
        found: dict[int, dict[str, float]] = {}
        with self._calling(f"reading the epochs of run {run_id}"):
            for name in (*EPOCH_FIGURES, *own):
                for point in self._client.get_metric_history(run_id, name):
                    found.setdefault(point.step, {})[name] = point.value
        return dict(sorted(found.items()))

    def count_test_opening(self, run_id: str) -> int:
        """Record that a run is about to open the test part; return the number of times, including this one.

        Each opening is a tag of its own, so that two at once are two.
        """
        before = self.get(run_id).test_openings
        self.log(run_id, tags={f"{OPENED_PREFIX}{new_name()}": datetime.now(UTC).isoformat(timespec="seconds")})
        openings = max(before + 1, self.get(run_id).test_openings)
        self.log(run_id, tags={Tag.TEST_OPENINGS: str(openings)})
        return openings


def by_number(runs: Iterable[RunInfo]) -> list[RunInfo]:
    """Return the runs of trials in the order of their numbers; others that have none are left out."""
    return sorted((run for run in runs if run.is_numbered), key=lambda run: run.trial_number)


def _plain(tags: Tags) -> dict[str, str]:
    return {str(name): str(text) for name, text in tags.items()}  # plain str, not enum members


def _info(run: Run) -> RunInfo:
    from mlflow.entities import RunStatus as Status

    status = run.info.status
    return RunInfo(
        run_id=run.info.run_id,
        status=RunStatus(Status.to_string(status) if isinstance(status, int) else status),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
        touched=max(run.info.start_time or 0, run.info.end_time or 0) / 1000,
    )
