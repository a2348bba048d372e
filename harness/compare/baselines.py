"""Baselines: classifiers from scikit-learn that a comparison trains beside the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

USES_NO_COLUMN = ("majority",)


def _filled() -> SimpleImputer:
    """Fill missing values with the train part's median, as a network does; others stay as they are."""
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _scaled() -> tuple[Any, Any]:
    return _filled(), StandardScaler()


# By name; each function makes a classifier from a seed. Nothing is tuned. The scaler is fitted together with the
# classifier, on the train part alone.
BASELINES: dict[str, Callable[[int], Any]] = {
    "majority": lambda seed: DummyClassifier(strategy="most_frequent"),
    "logistic regression": lambda seed: make_pipeline(
        _filled(), StandardScaler(), LogisticRegression(max_iter=5000)
    ),
    "RBF SVM": lambda seed: make_pipeline(_filled(), StandardScaler(), SVC()),
    "random forest": lambda seed: make_pipeline(_filled(), RandomForestClassifier(random_state=seed)),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
}
