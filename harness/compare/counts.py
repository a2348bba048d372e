"""What the pictures of a comparison show, as numbers: curves, confusions, recalls, tracks apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.compare.result import Comparison, Outcome


def confusion(comparison: Comparison, name: str) -> np.ndarray:
    """Return how often each genre (rows) was predicted as each genre (columns), over all repeats.

    Shape: [genres, genres].
    """
    size = len(comparison.genres)
    counts = np.zeros((size, size), dtype=np.int64)
    for outcome, split in zip(comparison.outcomes[name], comparison.splits, strict=True):
        np.add.at(counts, (comparison.truth(split.test), outcome.test), 1)
    return counts


def recalls(comparison: Comparison, name: str) -> np.ndarray:
    """Return the recall of each genre in each repeat: [repeats, genres], NaN for a genre without test tracks."""
    found = []
    for outcome, split in zip(comparison.outcomes[name], comparison.splits, strict=True):
        truth = comparison.truth(split.test)
        masks = [truth == genre for genre in range(len(comparison.genres))]
        found.append([float((outcome.test[m] == truth[m]).mean()) if m.any() else np.nan for m in masks])
    return np.array(found)


def band(outcomes: Sequence[Outcome], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation by epoch; a diverged repeat counts in the epochs that it has."""
    curves = [outcome.curves[metric] for outcome in outcomes if outcome.curves.get(metric)]
    longest = max((len(curve) for curve in curves), default=0)
    table = np.full((len(curves), longest), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return (np.nanmean(table, axis=0), np.nanstd(table, axis=0)) if longest else (np.array([]), np.array([]))


def tracks_apart(comparison: Comparison, a: str, b: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return the test tracks of the studies' own split that both, only `a`, only `b`, or neither gets right."""
    right = {name: dict(zip(comparison.split.test, comparison.own[name], strict=True)) for name in (a, b)}
    both: list[str] = []
    only_a: list[str] = []
    only_b: list[str] = []
    neither: list[str] = []
    for track in comparison.split.test:
        ours, theirs = right[a][track], right[b][track]
        ((both if theirs else only_a) if ours else (only_b if theirs else neither)).append(track)
    return both, only_a, only_b, neither
