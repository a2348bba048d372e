"""Baselines: classifiers from scikit-learn that a comparison trains beside the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from harness.data.filling import median_filler

USES_NO_COLUMN = ("majority",)


def _scaled(classifier: Any) -> Any:
    return make_pipeline(median_filler(), StandardScaler(), classifier)


# By name; each function makes a classifier from a seed. Nothing is tuned. The scaler is fitted together with the
# classifier, on the train part alone.
BASELINES: dict[str, Callable[[int], Any]] = {
    "majority": lambda seed: DummyClassifier(strategy="most_frequent"),
    "logistic regression": lambda seed: _scaled(LogisticRegression(max_iter=5000)),
    "RBF SVM": lambda seed: _scaled(SVC()),
    "random forest": lambda seed: make_pipeline(median_filler(), RandomForestClassifier(random_state=seed)),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
}
