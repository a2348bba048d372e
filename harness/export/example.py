"""The example of a registered model: two tracks as its input table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.core.records import Split
from harness.data import View, picture_files
from harness.data.rows import IS
from harness.tracking import PICTURE_COLUMN


def example_table(view: View, split: Split) -> pd.DataFrame:
    """Return two tracks of the train part as an input table of the registered model."""
    tracks, columns, representation = view.tracks, view.columns, view.representation
    ids = split.train[:2]
    found = {} if representation == "features" else picture_files(tracks.folder, tracks.options)
    pictures = pd.DataFrame({PICTURE_COLUMN: [found[track][1].read_bytes() for track in ids if found]})
    if representation == "pictures":
        return pictures
    assert tracks.features is not None
    table = pd.DataFrame(tracks.features, index=list(tracks.ids), columns=list(tracks.columns))[list(columns)]
    # pandas reads a CSV column of whole numbers as integers: the example must have the same types.
    whole = [name for name in columns if np.equal(table[name], np.floor(table[name])).all()]
    rows = table.astype(dict.fromkeys(whole, "int64")).loc[list(ids)].reset_index(drop=True)
    rows = _with_categories(rows)
    return rows if representation == "features" else pd.concat([pictures, rows], axis=1)


def _with_categories(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows as the user's table has them: one column NAME for all `NAME=VALUE`."""
    found: dict[str, list[str] | pd.Series] = {}
    for name in rows.columns:
        base, is_one, value = name.partition(IS)
        if not is_one:
            found[name] = rows[name]
            continue
        texts = found.setdefault(base, [""] * len(rows))
        found[base] = [value if flag else text for flag, text in zip(rows[name], texts, strict=True)]
    return pd.DataFrame(found)
