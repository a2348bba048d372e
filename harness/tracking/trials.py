"""The runs of trials: turn journal events into params, metrics, tags and artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING

from harness.core.events import (
    Ended,
    EpochDone,
    Event,
    FoldEnded,
    FoldEpochDone,
    Resumed,
    ResumeSaved,
    TrialStarted,
)
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.study_record import DatasetInfo
from harness.tracking.client import translated
from harness.tracking.run_info import FOLD_PREFIX
from harness.tracking.runs import Point
from harness.tracking.study_params import study_params
from harness.tracking.tags import INPUT_CONTEXT, STATUS_OF, TAG_LIMIT, Kind, RunStatus, Tag, code_tags, study_tags
from harness.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

EPOCH_METRICS = {
    "train_loss": "train_loss",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
    "seconds": "epoch_seconds",
}


def epoch_points(event: EpochDone) -> list[Point]:
    """Return the metric points of an epoch; their time is that of the event, their step is the epoch."""
    metrics = event.metrics
    figures = {name: getattr(metrics, key) for key, name in EPOCH_METRICS.items()}
    # The own ones first: an epoch with its last metric, the seconds, counts as complete.
    points = [
        Point(name, v, event.time, metrics.epoch)
        for name, v in {**metrics.own, **metrics.gpu, **figures}.items()
        if v is not None
    ]
    if event.std is not None:
        points.append(Point("val_accuracy_std", event.std, event.time, metrics.epoch))
    return points


def fold_metric(fold: int) -> str:
    """Return the name of the metric with the validation accuracy of a fold."""
    return f"{FOLD_PREFIX}{fold}"


def best_points(best: EpochMetrics | None, time: int) -> list[Point]:
    """Return the metric points of the best epoch; empty if there is none."""
    if best is None:
        return []
    figures = {
        "best_val_accuracy": best.val_accuracy,
        "best_val_loss": best.val_loss,
        "best_epoch": best.epoch,
        **{f"best_{name}": value for name, value in best.own.items()},
    }
    return [Point(name, value, time) for name, value in figures.items() if value is not None]


def end_tags(result: TrialResult) -> dict[str, str]:
    """Return the tags that say how a trial or a repeat ended."""
    return {Tag.TRIAL_STATE: result.state, Tag.REASON: (result.reason or "")[-TAG_LIMIT:]}


class TrialLog:
    """Turns the journal events of a study's trials into MLflow runs under the study's run."""

    def __init__(self, tracker: Tracker, spec: StudySpec, parent_run_id: str, dataset: DatasetInfo) -> None:
        self._tracker = tracker
        self._spec = spec
        self._parent = parent_run_id
        self._dataset = dataset
        self._experiment = tracker.experiment_id(spec.experiment)

    def run_of(self, number: int, time: int, *, search: bool) -> tuple[str, frozenset[tuple[int, int]]]:
        """Return the id of a trial's run, and the epochs that MLflow already has, as (fold, epoch).

        The fold is 0 for an epoch of the trial's own curve.

        `search`: look for an existing run first. If there is none, make it, with `time` (ms since 1970) as its
        start.
        """
        runs = self._tracker.runs
        if search:
            found = self._tracker.studies.trial_run(self._parent, number, self._experiment)
            if found is not None:
                last = list(EPOCH_METRICS.values())[-1]  # an epoch with its last metric is complete
                known = {(0, epoch) for epoch in runs.steps(found.run_id, last)}
                for fold in found.trained_folds:
                    known |= {(fold, epoch) for epoch in runs.steps(found.run_id, fold_metric(fold))}
                return found.run_id, frozenset(known)
        name = f"{self._spec.model.rpartition(':')[2]}-{number:03d}"
        tags = study_tags(self._spec, Kind.TRIAL) | {Tag.PARENT_ID: self._parent, Tag.TRIAL: str(number)}
        return runs.create(self._experiment, name, tags, time), frozenset()

    def send(
        self, run_id: str, events: Sequence[Event], *, checkpoint: Path | None, resume: Path | None = None
    ) -> None:
        """Send events of one trial, in their order. The folder `checkpoint`, if any, is sent at the trial's end.

        All points, params and tags are sent in one batch, then the files, and the status last. `resume` is the
        folder of the resume point, if another machine may have to continue from it. It is uploaded after the
        epochs that it includes, and removed at the trial's end.
        """
        runs, artifacts = self._tracker.runs, self._tracker.artifacts
        batch = _translate(self._spec, events)
        runs.log(run_id, points=batch.points, params=batch.params, tags=batch.tags)
        if batch.started:
            with translated(f"recording the data of run {run_id}"):
                self._tracker.client.log_inputs(run_id, [self._input()])
        if batch.end is not None and checkpoint is not None and checkpoint.is_dir():
            artifacts.log_checkpoint(run_id, checkpoint)
        if resume is not None and batch.is_over:
            artifacts.remove_resume(run_id)
        elif resume is not None and any(isinstance(event, ResumeSaved | FoldEnded) for event in events):
            artifacts.store_resume(run_id, resume)
        if batch.end is not None:
            status = STATUS_OF[batch.end.result.state]
            if status == RunStatus.SCHEDULED:
                runs.set_status(run_id, status)
            else:
                runs.end(run_id, status, time=batch.end.time)
        elif batch.started:
            runs.set_status(run_id, RunStatus.RUNNING)

    def _input(self) -> DatasetInput:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        info = self._dataset
        profile = {"tracks": info.tracks, "genres": info.genres, "digest": info.digest}
        dataset = Dataset(
            name=info.name,
            digest=info.digest[:16],  # MLflow takes 36 characters; the whole digest is a tag of every run
            source_type="local",
            source=json.dumps({"uri": info.folder}),
            profile=json.dumps(profile),
        )
        return DatasetInput(dataset, [InputTag(INPUT_CONTEXT, "training")])


@dataclass(slots=True)
class _Batch:
    """The params, points and tags for a run, and the end of the trial unless it has started again."""

    params: dict[str, object] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    started: bool = False
    end: Ended | None = None

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended. One that was interrupted or pauses has not: it will be continued."""
        return self.end is not None and self.end.result.is_over


def _translate(spec: StudySpec, events: Sequence[Event]) -> _Batch:
    """Return what the events of one trial, in their order, add to its run."""
    batch = _Batch()
    for event in events:
        match event:
            case TrialStarted():
                batch.params |= _params(spec, event)
                batch.tags |= _start_tags(event)
                batch.points.append(Point("trial", event.trial, event.time))
                batch.started, batch.end = True, None
            case EpochDone():
                batch.points += epoch_points(event)
            case FoldEpochDone(fold=fold, metrics=metrics):
                assert metrics.val_accuracy is not None  # each fold has a validation part
                batch.points.append(Point(fold_metric(fold), metrics.val_accuracy, event.time, metrics.epoch))
            case Resumed(epoch=epoch):
                batch.tags[Tag.RESUMED_AFTER] = str(epoch)
            case Ended(result=result):
                batch.tags |= end_tags(result)
                if event.mended is not None:
                    batch.tags[Tag.MENDED] = event.mended
                if result.rung is not None:
                    batch.tags[Tag.RUNG] = str(result.rung)
                if result.is_over:
                    batch.points += best_points(result.best, event.time)
                    if len(result.folds) > 1:
                        batch.points.append(Point("best_val_accuracy_std", stdev(result.folds), event.time))
                batch.end = event
    return batch


def _params(spec: StudySpec, start: TrialStarted) -> dict[str, object]:
    config = start.config
    return {
        **study_params(spec),
        **config.params,
        "trial_seed": config.seed,
    }


def _start_tags(start: TrialStarted) -> dict[str, str]:
    tags: dict[str, str] = {
        Tag.TRIAL_STATE: "running",
        Tag.DEVICE: start.device,
        Tag.CONFIG: json.dumps(start.config.as_dict()),
        Tag.TOTAL: str(start.total),
        **code_tags(),
    }
    where = {Tag.GPU: start.gpu, Tag.NODE: start.node, Tag.RAY: start.ray}
    return tags | {tag: value for tag, value in where.items() if value is not None}
