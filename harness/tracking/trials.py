"""The runs of trials: journal events turned into params, metrics, tags and artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from harness.core.errors import StudyError
from harness.core.journal import Event
from harness.core.records import StudySpec, TrialConfig, TrialState
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


def epoch_points(event: Event) -> list[Metric]:
    """Return the metric points of a journal's `epoch` event, with its own time and step."""
    return [Metric(name, event[key], event["time"], event["epoch"]) for key, name in EPOCH_METRICS.items()]


def best_points(event: Event) -> list[Metric]:
    """Return the metric points of the best epoch, which a journal's `end` event names (or not)."""
    best = event["best"] or {}
    figures = {"best_val_accuracy": "val_accuracy", "best_val_loss": "val_loss", "best_epoch": "epoch"}
    return [Metric(name, best[key], event["time"], 0) for name, key in figures.items() if key in best]


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

    def run_of(self, start: Event, *, search: bool) -> tuple[str, frozenset[int]]:
        """Return the run of the trial that this `start` event begins, and the epochs that it has on record.

        The run is made, unless `search` finds it.
        """
        number = start["trial"]
        with translated(f"opening the run of trial {number}"):
            if search:
                found = self._tracker.trial_run(self._spec.name, number, self._experiment)
                if found is not None:
                    last = list(EPOCH_METRICS.values())[-1]  # an epoch that has its last metric has all
                    points = self._client.get_metric_history(found.run_id, last)
                    return found.run_id, frozenset(point.step for point in points)
            run = self._client.create_run(
                self._experiment,
                start_time=start["time"],
                run_name=f"{self._spec.model.rpartition(':')[2]}-{number:03d}",
                tags={
                    **common_tags(self._spec, "trial"),
                    "mlflow.parentRunId": self._parent,
                    "trial": str(number),
                },
            )
            return str(run.info.run_id), frozenset()

    def send(self, run_id: str, events: list[Event], *, checkpoint: Path, resume: Path | None = None) -> None:
        """Send events of one trial, in their order; the folder `checkpoint` is uploaded with the trial's end.

        All points, params and tags go in one batch; then the files; the status comes last. `resume` is the
        folder with the resume checkpoint, where another machine may have to go on from it: uploaded after the
        epochs that it comes after, and removed with the trial's end.
        """
        params: dict[str, str] = {}
        metrics: list[Metric] = []
        tags: dict[str, str] = {}
        status, ended = None, None
        for event in events:
            if event["event"] == "start":
                params |= self._params(event)
                tags |= {"trial_state": "running", "device": event["device"], "total": str(event["total"])}
                tags |= {"config": json.dumps(event["config"]), **code_and_environment()}
                if event.get("gpu") is not None:
                    tags["gpu"] = event["gpu"]
                metrics.append(Metric("trial", event["trial"], event["time"], 0))
                status, ended = "RUNNING", None
            elif event["event"] == "epoch":
                metrics += epoch_points(event)
            elif event["event"] == "resumed":
                tags["resumed_after_epoch"] = str(event["epoch"])
            elif event["event"] == "end":
                tags |= {"trial_state": event["state"], "reason": (event["reason"] or "")[-TAG_LIMIT:]}
                if "mended" in event:
                    tags["mended"] = event["mended"]
                if event["state"] != "interrupted":
                    metrics += best_points(event)
                status, ended = STATUS[event["state"]], event["time"]
        with translated(f"recording run {run_id}"):
            for first in range(0, max(len(metrics), 1), 1000):  # what one batch may hold
                self._client.log_batch(
                    run_id,
                    metrics=metrics[first : first + 1000],
                    params=[Param(k, v) for k, v in params.items()] if first == 0 else [],
                    tags=[RunTag(k, v) for k, v in tags.items()] if first == 0 else [],
                )
            if params:
                context = [InputTag("mlflow.data.context", "training")]
                self._client.log_inputs(run_id, [DatasetInput(self._dataset, context)])
            if ended is not None and checkpoint.is_dir():
                self._client.log_artifacts(run_id, str(checkpoint), "checkpoint")
            over = ended is not None and tags["trial_state"] != "interrupted"
            if resume is not None and over:
                self._tracker.remove_resume(run_id)
            elif resume is not None and any(event["event"] == "saved" for event in events):
                self._tracker.store_resume(run_id, resume)
            if status == "RUNNING":
                self._client.update_run(run_id, status=status)
            elif status is not None:
                self._client.set_terminated(run_id, status, ended)

    def _params(self, start: Event) -> dict[str, str]:
        config = start["config"]
        own = {**TrialConfig.of(config).params, "trial_seed": config["seed"]}
        return {name: str(value) for name, value in {**study_params(self._spec), **own}.items()}


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
