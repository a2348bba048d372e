"""Fill missing values outside of a network, as its normaliser does it inside."""

from __future__ import annotations

from sklearn.impute import SimpleImputer


def median_filler() -> SimpleImputer:
    """Return a step that fills missing values with the medians of the rows that it is fitted on.

    A column of missing values alone is filled with 0. Rows without missing values stay as they are.
    """
    return SimpleImputer(strategy="median", keep_empty_features=True)
