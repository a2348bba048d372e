"""Guess which columns of a table are the id and the label, where their names do not say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import replacing
from harness.data.options import DATASET_FILE, DatasetOptions, read_options
from harness.data.rows import table_rows
from harness.data.source import table_file
from harness.data.tables import ITEM_ID, is_number

MOST_CLASSES = 100


def guessed_options(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return `given` with the id and the label column that a table surely has; what is not sure stays out.

    The id is sure if exactly one column has a text of its own in each row, the label if exactly one other column
    has texts that come five times or more, up to MOST_CLASSES different ones. Nothing is guessed where the columns
    have their default names, and in the layout of GTZAN.
    """
    options = read_options(folder, given) or DatasetOptions()
    path = table_file(folder, options)
    if path is None:
        return dict(given)
    header, placed = table_rows(path)
    rows = [cells for _, cells in placed]
    found = dict(given)
    texts = {
        name: cells
        for place, name in enumerate(header)
        if len(cells := [row[place].strip() for row in rows if place < len(row)]) == len(rows) > 0
        and not any(map(is_number, cells))
    }
    if options.id_column not in header:
        own = [name for name, cells in texts.items() if _is_id(cells)]
        if len(own) == 1:
            found["id"] = own[0]
    if options.label_column not in header:
        shared = [name for name, cells in texts.items() if name != options.group and _is_label(cells)]
        if len(shared) == 1:
            found["label"] = shared[0]
    return found


def write_options(folder: Path, given: Mapping[str, str]) -> Path | None:
    """Write a `dataset.toml` with these keys, unless the folder has one or they are none; return its path.

    Raises DataError if it cannot be written.
    """
    path = folder / DATASET_FILE
    options = read_options(folder, given)
    if path.exists() or options is None or not options.as_json():
        return None
    try:
        with replacing(path) as temporary:
            temporary.write_text(options.as_toml(), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}",
            expected="a data folder that can be written",
            hint="the same options with harness sweep",
        ) from error
    return path


def _is_id(cells: list[str]) -> bool:
    return len({*cells}) == len(cells) and all(map(ITEM_ID.fullmatch, cells))


def _is_label(cells: list[str]) -> bool:
    counts = Counter(cells)
    return 2 <= len(counts) <= MOST_CLASSES and min(counts.values()) >= 5
