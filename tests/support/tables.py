"""Data sets of features that exist in memory alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data import Tracks


def tracks_of(features: np.ndarray, labels: np.ndarray) -> Tracks:
    """Return synthetic tracks with these features, float [n, columns], and genres, int [n]."""
    return Tracks(
        folder=Path("synthetic"),
        ids=tuple(f"a.{number:05d}" for number in range(len(labels))),
        genres=tuple("abcdefghij"[: labels.max() + 1]),
        labels=labels,
        columns=tuple(f"x{number}" for number in range(features.shape[1])),
        features=features,
        pictures=None,
        excluded={},
        duplicates=(),
        digest="synthetic",
        synthetic=True,
    )
