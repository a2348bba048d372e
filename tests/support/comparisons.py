"""Comparisons in the tests: their plans and the runs that they record."""

from __future__ import annotations

from typing import Any

from mlflow.entities import Run

from harness.compare import CompareSettings, ComparisonPlan, plan_comparison
from tests.support.stores import Stores

BASELINES = ["majority", "logistic regression", "RBF SVM", "random forest", "gradient boosting"]


def repeats(run_id: str) -> list[Run]:
    """The runs of a comparison's repeats, candidate by candidate, in their order."""
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.kind = 'repeat' and tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda run: (run.data.tags["candidate"], int(run.data.tags["repeat"])))


def plan(**changes: Any) -> ComparisonPlan:
    """The plan of a comparison of the two studies that these tests share, or of what `changes` say."""
    return plan_comparison(CompareSettings(**{"studies": ("one", "two"), **changes}))
