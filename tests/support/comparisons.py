"""Comparisons in the tests: their plans and the runs that they record."""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.entities import Run

from harness.compare import CompareSettings, ComparisonPlan, plan_comparison
from harness.compare.verdict import ResamplingScheme
from tests.support.stores import Stores

TRAINED = ["logistic regression", "RBF SVM", "random forest", "gradient boosting"]
BASELINES = ["majority", *TRAINED, *[f"{name}, no length" for name in TRAINED]]


def repeats(run_id: str) -> list[Run]:
    """The runs of a comparison's repeats, candidate by candidate, in their order."""
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.kind = 'repeat' and tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda run: (run.data.tags["candidate"], int(run.data.tags["repeat"])))


def plan(**changes: Any) -> ComparisonPlan:
    """The plan of a comparison of the two studies that these tests share, or of what `changes` say."""
    return plan_comparison(CompareSettings(**{"studies": ("one", "two"), **changes}))


def scheme_of(repeats: int, tracks: int, *, redrawn: bool) -> ResamplingScheme:
    """A scheme with so many tracks in each test part: folds of a fifth, in rounds, or one test part for all."""
    folds = [np.arange(tracks) + tracks * (number % 5 if redrawn else 0) for number in range(repeats)]
    return ResamplingScheme(
        redrawn=redrawn,
        train=3.2 * tracks,
        valid=0.8 * tracks,
        test=tracks,
        pool=5 * tracks,
        clusters=tuple(folds),
        own_clusters=np.arange(tracks),
    )
