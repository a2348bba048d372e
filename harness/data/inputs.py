"""Feature rows of a file that a user names: the rows of a table, or one row computed from sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.data.audio import SUFFIXES, clip_features, load_clip
from harness.data.features import FEATURE_COLUMNS
from harness.data.options import MUSIC
from harness.data.parquet import PARQUET
from harness.data.rows import Rows, read_rows

TABLE_SUFFIXES = (".csv", PARQUET)  # the types of tables
FEATURE_SUFFIXES = (*TABLE_SUFFIXES, *SUFFIXES)
FAR = 20.0  # standard deviations from the mean of the train part; all rows of GTZAN are below 16


def feature_rows(
    path: Path, columns: Sequence[str], *, impute: bool = False, id_column: str = MUSIC.id_column
) -> Rows:
    """Return the rows of a file of one of the FEATURE_SUFFIXES, with these columns; that of sound has no name.

    `impute`: a missing value is NaN. The names are in the column `id_column`, or in `filename` or `id`.

    Raises DataError as `read_rows`, `load_clip` and `clip_features` do.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_rows(path, columns, names_in=(id_column, "filename", "id"), impute=impute)
    return Rows((None,), clip_row(path, load_clip(path), columns))


def clip_row(path: Path, clip: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Return these columns of a clip: float64 [1, columns]. Raises DataError as `clip_features` does."""
    found = dict(zip(FEATURE_COLUMNS, clip_features(path, clip), strict=True))
    return np.array([[found[name] for name in columns]])
