"""Figures of the feature columns: correlations, values by genre, how much the genres differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from scipy.stats import kruskal, rankdata

from harness.data.features import FAMILIES
from harness.data.tracks import Tracks

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STRONG = 0.9  # a correlation from which on two columns say nearly the same
NO_FAMILY = "in no family"
NEGLIGIBLE = 1e-12  # of a column's largest value: a smaller range is rounding


@dataclass(frozen=True, slots=True)
class Correlated:
    """Two columns and their correlation: of the values (Pearson) and of the ranks (Spearman)."""

    a: str
    b: str
    values: float
    ranks: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Figures of the feature columns, of the train part alone.

    `names` are the columns, those of a family together; `families` maps each family to its columns. The arrays
    follow `names`: `pearson` and `spearman` are float64 [c, c]; `quantiles` is float64 [genres, c, 5], NaN for a
    genre without train tracks; `differs` is float64 [c] (see `difference`). What a constant column does not have
    is NaN.
    """

    names: tuple[str, ...]
    families: dict[str, tuple[str, ...]]
    constant: tuple[str, ...]
    pearson: np.ndarray
    spearman: np.ndarray
    quantiles: np.ndarray
    differs: np.ndarray

    @property
    def strongest(self) -> list[Correlated]:
        """All pairs of columns, the strongest correlation of the values first."""
        rows, columns = np.triu_indices(len(self.names), k=1)
        order = np.argsort(-np.abs(self.pearson[rows, columns]), kind="stable")
        return [
            Correlated(self.names[a], self.names[b], float(self.pearson[a, b]), float(self.spearman[a, b]))
            for a, b in zip(rows[order], columns[order], strict=True)
            if np.isfinite(self.pearson[a, b])
        ]

    @property
    def most_different(self) -> list[tuple[str, float]]:
        """The columns with how much the genres differ in them, the largest first."""
        known = [(name, float(value)) for name, value in zip(self.names, self.differs, strict=True)]
        return sorted((pair for pair in known if np.isfinite(pair[1])), key=lambda pair: -pair[1])


def columns_of(train: Tracks) -> Columns:
    """Return the figures of the feature columns of these tracks, which have features."""
    assert train.features is not None
    families = grouped(train.columns)
    names = tuple(name for columns in families.values() for name in columns)
    values = train.features[:, [train.columns.index(name) for name in names]]
    varies = varying(values)
    quantiles = np.full((len(train.genres), len(names), len(QUANTILES)), np.nan)
    for genre in np.unique(train.labels):
        quantiles[genre] = np.quantile(values[train.labels == genre], QUANTILES, axis=0).T
    return Columns(
        names=names,
        families=families,
        constant=tuple(name for name, is_varied in zip(names, varies, strict=True) if not is_varied),
        pearson=_correlations(values, varies),
        spearman=_correlations(rankdata(values, axis=0), varies),
        quantiles=quantiles,
        differs=np.array(
            [
                difference(column, train.labels) if is_varied else np.nan
                for column, is_varied in zip(values.T, varies, strict=True)
            ]
        ),
    )


def grouped(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the families of these columns, and under NO_FAMILY, last, those that are in none."""
    found = {
        family: tuple(c for c in columns if any(fnmatchcase(c, pattern) for pattern in patterns))
        for family, patterns in FAMILIES.items()
    }
    inside = {name for names in found.values() for name in names}
    found[NO_FAMILY] = tuple(name for name in columns if name not in inside)
    return {family: names for family, names in found.items() if names}


def varying(values: np.ndarray) -> np.ndarray:
    """Return which columns of float64 [n, c] are not constant: bool [c]."""
    found: np.ndarray = np.ptp(values, axis=0) > NEGLIGIBLE * np.abs(values).max(axis=0)
    return found


def difference(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the variance of the ranks of `values`, float64 [n], that lies between the genres.

    1: the genres do not overlap. Genres that do not differ get 0 on average, and the value can be a little below.
    NaN if there are too few tracks. It is eta squared of the Kruskal-Wallis test, (H - k + 1) / (n - k).
    Source: Tomczak and Tomczak (2014), The need to report effect size estimates revisited.
    """
    groups = [values[labels == genre] for genre in np.unique(labels)]
    if len(groups) < 2 or len(values) <= len(groups):
        return float("nan")
    return (float(kruskal(*groups).statistic) - len(groups) + 1) / (len(values) - len(groups))


def _correlations(values: np.ndarray, varies: np.ndarray) -> np.ndarray:
    found = np.full((values.shape[1],) * 2, np.nan)
    if varies.any():
        found[np.ix_(varies, varies)] = np.corrcoef(values[:, varies], rowvar=False)
    return found
