"""The runs of trials: journal events turned into params, metrics, tags and artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from harness.core.errors import StudyError
from harness.core.events import Ended, EpochDone, Event, Resumed, ResumeSaved, TrialStarted
from harness.core.records import EpochMetrics, StudySpec, TrialState
from harness.core.workspace import check_name
from harness.tracking.tracker import (
    TAG_LIMIT,
    RunInfo,
    Tracker,
    code_and_environment,
    common_tags,
    study_params,
    translated,
)

# How a trial's end is recorded as the status of its run; the tag `trial_state` has the finer word.
STATUS: dict[TrialState, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
EPOCH_METRICS = {
    "train_loss": "train_loss",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
    "seconds": "epoch_seconds",
}


def epoch_points(event: EpochDone) -> list[Metric]:
    """Return the metric points of an epoch, with its own time and step."""
    metrics = event.metrics
    return [Metric(name, getattr(metrics, key), event.time, metrics.epoch) for key, name in EPOCH_METRICS.items()]


def best_points(best: EpochMetrics | None, time: int) -> list[Metric]:
    """Return the metric points of the best epoch, if there is one."""
    if best is None:
        return []
    figures = {
        "best_val_accuracy": best.val_accuracy,
        "best_val_loss": best.val_loss,
        "best_epoch": best.epoch,
    }
    return [Metric(name, value, time, 0) for name, value in figures.items()]


class TrialLog:
    """Turns the journal events of a study's trials into MLflow runs under the study's parent run."""

    def __init__(self, tracker: Tracker, spec: StudySpec, parent_run_id: str, dataset: dict[str, Any]) -> None:
        self._tracker = tracker
        self._client = tracker.client
        self._spec = spec
        self._parent = parent_run_id
        self._experiment = tracker.experiment_id(spec.experiment)
        # MLflow keeps 36 characters of a digest; the whole one is a tag of every run.
        self._dataset = Dataset(
            name=dataset["name"],
            digest=spec.data_digest[:16],
            source_type="local",
            source=json.dumps({"uri": dataset["folder"]}),
            profile=json.dumps(dataset["profile"]),
        )

    def run_of(self, number: int, time: int, *, search: bool) -> tuple[str, frozenset[int]]:
        """Return the run of a trial, and the epochs that it has on record.

        The run is made, with `time` (ms since 1970) as its start, unless `search` finds it.
        """
        with translated(f"opening the run of trial {number}"):
            if search:
                found = self._tracker.trial_run(self._spec.name, number, self._experiment)
                if found is not None:
                    last = list(EPOCH_METRICS.values())[-1]  # an epoch that has its last metric has all
                    points = self._client.get_metric_history(found.run_id, last)
                    return found.run_id, frozenset(point.step for point in points)
            run = self._client.create_run(
                self._experiment,
                start_time=time,
                run_name=f"{self._spec.model.rpartition(':')[2]}-{number:03d}",
                tags={
                    **common_tags(self._spec, "trial"),
                    "mlflow.parentRunId": self._parent,
                    "trial": str(number),
                },
            )
            return str(run.info.run_id), frozenset()

    def send(self, run_id: str, events: Sequence[Event], *, checkpoint: Path, resume: Path | None = None) -> None:
        """Send events of one trial, in their order; the folder `checkpoint` is uploaded with the trial's end.

        All points, params and tags go in one batch; then the files; the status comes last. `resume` is the
        folder with the resume checkpoint, where another machine may have to go on from it: uploaded after the
        epochs that it comes after, and removed with the trial's end.
        """
        batch = _translate(self._spec, events)
        with translated(f"recording run {run_id}"):
            for first in range(0, max(len(batch.metrics), 1), 1000):  # what one batch may hold
                self._client.log_batch(
                    run_id,
                    metrics=batch.metrics[first : first + 1000],
                    params=[Param(k, v) for k, v in batch.params.items()] if first == 0 else [],
                    tags=[RunTag(k, v) for k, v in batch.tags.items()] if first == 0 else [],
                )
            if batch.params:
                context = [InputTag("mlflow.data.context", "training")]
                self._client.log_inputs(run_id, [DatasetInput(self._dataset, context)])
            if batch.end is not None and checkpoint.is_dir():
                self._client.log_artifacts(run_id, str(checkpoint), "checkpoint")
            if resume is not None and batch.is_over:
                self._tracker.remove_resume(run_id)
            elif resume is not None and any(isinstance(event, ResumeSaved) for event in events):
                self._tracker.store_resume(run_id, resume)
            if batch.end is not None:
                self._client.set_terminated(run_id, STATUS[batch.end.result.state], batch.end.time)
            elif batch.started:
                self._client.update_run(run_id, status="RUNNING")


@dataclass(slots=True)
class _Batch:
    """What events come to in a run: params, points and tags, and the end, unless the trial has started again."""

    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    started: bool = False
    end: Ended | None = None

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended; one that was interrupted has not."""
        return self.end is not None and self.end.result.state != "interrupted"


def _translate(spec: StudySpec, events: Sequence[Event]) -> _Batch:
    """Return what events of one trial, in their order, come to in its run."""
    batch = _Batch()
    for event in events:
        match event:
            case TrialStarted():
                batch.params |= _params(spec, event)
                batch.tags |= _start_tags(event)
                batch.metrics.append(Metric("trial", event.trial, event.time, 0))
                batch.started, batch.end = True, None
            case EpochDone():
                batch.metrics += epoch_points(event)
            case Resumed(epoch=epoch):
                batch.tags["resumed_after_epoch"] = str(epoch)
            case Ended(result=result):
                batch.tags |= {"trial_state": result.state, "reason": (result.reason or "")[-TAG_LIMIT:]}
                if event.mended is not None:
                    batch.tags["mended"] = event.mended
                if result.state != "interrupted":
                    batch.metrics += best_points(result.best, event.time)
                batch.end = event
    return batch


def _params(spec: StudySpec, start: TrialStarted) -> dict[str, str]:
    config = start.config
    own = {**config.params, "trial_seed": config.seed}
    return {name: str(value) for name, value in {**study_params(spec), **own}.items()}


def _start_tags(start: TrialStarted) -> dict[str, str]:
    tags = {"trial_state": "running", "device": start.device, "total": str(start.total)}
    tags |= {"config": json.dumps(start.config.as_dict()), **code_and_environment()}
    return tags if start.gpu is None else {**tags, "gpu": start.gpu}


def best_trial_run(tracker: Tracker, study: str) -> RunInfo:
    """Return the run of a study's best complete trial: highest accuracy, of several the first trial.

    Raises StudyError where the study or a complete trial is missing.
    """
    check_name("study", study)
    runs = tracker.trial_runs(study)
    complete = [run for run in runs if run.tags.get("trial_state") == "complete"]
    if not complete:
        found = f"study {study!r} has no complete trial" if runs else f"there is no study {study!r}"
        raise StudyError(
            found,
            expected=", ".join(tracker.study_names()) or "no study yet",
            hint="harness status, or harness sweep",
        )
    return max(complete, key=lambda run: (run.metrics["best_val_accuracy"], -int(run.tags["trial"])))
