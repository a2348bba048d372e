"""The files of a data folder, and what the modules that read them share."""

from __future__ import annotations

import re
from typing import Protocol

MAX_COLUMNS = 2000  # of a table
FEATURES_FILE = "features_30_sec.csv"
PICTURES_FOLDER = "images_original"
SOUND_FOLDER = "genres_original"
MARKER_FILE = "SYNTHETIC.md"  # only in a folder that `harness data demo` or a `Dataset(synthetic=True)` made
HIDDEN = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE)  # files of operating systems, ignored
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")  # cells of a table without a value
CHECK_HINT = "correct it, then: harness data check DIR"


class FileProgress(Protocol):
    """A function that is called after each file of a long operation."""

    def __call__(self, name: str, done: int, total: int, error: str | None, /) -> None:
        """Report that `done` of `total` files are done; `error` says why this one cannot be used, or is None."""
