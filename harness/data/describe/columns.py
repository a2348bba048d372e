"""Figures of the feature columns: correlations, values by genre, how much the genres differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kruskal, rankdata

from harness.data.features import FAMILIES, matches
from harness.data.tracks import Tracks

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_COLUMNS = 80  # that are drawn and have correlations
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

    `names` are the columns, those of a family together. `quantiles` is float64 [genres, c, 5], NaN where a genre
    has no values; `differs` is float64 [c] (see `difference`), NaN for a constant column. `constant` are the
    columns with one value, or none; `missing` maps columns to their number of missing values.

    `families` maps each family to its columns, without those that are not drawn: where there are more than
    MOST_COLUMNS, those are drawn in which the genres differ most. `drawn` are their places in `names`. `pearson`
    and `spearman` are float64 [drawn, drawn], over the tracks that have both values, NaN for a constant column.
    """

    names: tuple[str, ...]
    families: dict[str, tuple[str, ...]]
    drawn: tuple[int, ...]
    constant: tuple[str, ...]
    missing: dict[str, int]
    pearson: np.ndarray
    spearman: np.ndarray
    quantiles: np.ndarray
    differs: np.ndarray

    @property
    def strongest(self) -> list[Correlated]:
        """All pairs of drawn columns, the strongest correlation of the values first."""
        rows, columns = np.triu_indices(len(self.drawn), k=1)
        names = [self.names[place] for place in self.drawn]
        order = np.argsort(-np.abs(self.pearson[rows, columns]), kind="stable")
        return [
            Correlated(names[a], names[b], float(self.pearson[a, b]), float(self.spearman[a, b]))
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
    varies, missing = varying(values), np.isnan(values).sum(axis=0)
    differs = np.array([difference(column, train.labels) for column in values.T])
    differs[~varies] = np.nan
    most = np.argsort(-np.nan_to_num(differs, nan=-np.inf), kind="stable")[:MOST_COLUMNS]
    drawn, shown = tuple(sorted(most.tolist())), {names[place] for place in most}
    return Columns(
        names=names,
        families={
            family: kept
            for family, columns in families.items()
            if (kept := tuple(c for c in columns if c in shown))
        },
        drawn=drawn,
        constant=tuple(name for name, is_varied in zip(names, varies, strict=True) if not is_varied),
        missing={name: int(count) for name, count in zip(names, missing, strict=True) if count},
        pearson=correlations(values[:, drawn]),
        spearman=correlations(rankdata(values[:, drawn], axis=0, nan_policy="omit")),
        quantiles=_quantiles(values, train),
        differs=differs,
    )


def grouped(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the families of these columns, and under NO_FAMILY, last, those that are in none."""
    found = {
        family: tuple(c for c in columns if any(matches(c, pattern) for pattern in patterns))
        for family, patterns in FAMILIES.items()
    }
    inside = {name for names in found.values() for name in names}
    found[NO_FAMILY] = tuple(name for name in columns if name not in inside)
    return {family: names for family, names in found.items() if names}


def varying(values: np.ndarray) -> np.ndarray:
    """Return which columns of float64 [n, c] have different values, leaving NaN aside: bool [c]."""
    low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    found: np.ndarray = high - low > NEGLIGIBLE * np.maximum(np.abs(low), np.abs(high))
    return found


def difference(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the variance of the ranks of `values`, float64 [n], that lies between the genres.

    1: the genres do not overlap. Genres that do not differ get 0 on average, and the value can be a little below.
    NaN if there are too few tracks. It is eta squared of the Kruskal-Wallis test, (H - k + 1) / (n - k).
    Source: Tomczak and Tomczak (2014), The need to report effect size estimates revisited.
    """
    known, labels = values[~np.isnan(values)], labels[~np.isnan(values)]
    groups = [known[labels == genre] for genre in np.unique(labels)]
    if len(groups) < 2 or len(known) <= len(groups) or np.ptp(known) == 0:
        return float("nan")
    return (float(kruskal(*groups).statistic) - len(groups) + 1) / (len(known) - len(groups))


def correlations(values: np.ndarray) -> np.ndarray:
    """Return Pearson's correlations of the columns of float64 [n, c]: float64 [c, c].

    Each is over the rows in which both columns have a value. NaN for a column that is constant there.
    """
    found, varies = np.full((values.shape[1],) * 2, np.nan), varying(values)
    kept = values[:, varies]
    known = ~np.isnan(kept)
    if not varies.any():
        return found
    scaled = np.where(known, (kept - np.nanmean(kept, axis=0)) / np.nanstd(kept, axis=0), 0)
    counts, sums = known.T.astype(float) @ known, scaled.T @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        spreads = (scaled**2).T @ known - sums**2 / counts
        spreads[spreads < NEGLIGIBLE * counts] = np.nan
        shared = (scaled.T @ scaled - sums * sums.T / counts) / np.sqrt(spreads * spreads.T)
    found[np.ix_(varies, varies)] = np.clip(shared, -1, 1)
    return found


def _quantiles(values: np.ndarray, train: Tracks) -> np.ndarray:
    found = np.full((len(train.genres), values.shape[1], len(QUANTILES)), np.nan)
    for genre in np.unique(train.labels):
        own = values[train.labels == genre]
        known = ~np.isnan(own).all(axis=0)
        found[genre, known] = np.nanquantile(own[:, known], QUANTILES, axis=0).T
    return found
