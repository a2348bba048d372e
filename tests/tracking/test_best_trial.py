"""The best trial by the runs in MLflow is the one by Optuna's trials, in ties too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.study import ranked
from harness.tracking import Kind, Tracker
from harness.tracking.tags import Tag
from tests.support.comparisons import trial


@pytest.mark.parametrize(
    "figures",
    [
        [(0.5, 1.0), (0.6, 2.0)],
        [(0.6, 2.0), (0.6, 1.0), (0.5, 0.1)],
        [(0.6, 1.0), (0.6, 1.0)],
        [(0.6, 1.5), (0.6, 1.0), (0.6, 1.0)],
    ],
)
def test_ties_go_to_the_lower_loss_then_to_the_first(workspace: Path, figures: list[tuple[float, float]]) -> None:
    tracker = Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = tracker.experiment_id("demo")
    parent = tracker.runs.create(experiment, "s", {Tag.KIND: Kind.STUDY, Tag.STUDY: "s"})
    rows = []
    for number, (accuracy, loss) in enumerate(figures):
        tags: dict[str, str] = {
            Tag.KIND: Kind.TRIAL,
            Tag.STUDY: "s",
            Tag.PARENT_ID: parent,
            Tag.TRIAL: str(number),
            Tag.TRIAL_STATE: "complete",
        }
        run_id = tracker.runs.create(experiment, f"trial {number}", tags)
        tracker.runs.add_metrics(run_id, {"best_val_accuracy": accuracy, "best_val_loss": loss})
        rows.append(replace(trial(number, accuracy, "COMPLETE"), val_loss=loss))
    assert tracker.studies.best_trial_run("s").trial_number == ranked(rows)[0].number
