"""Any table of items: a CSV or Parquet file with an id, a label, and columns of numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError, listed
from harness.data.features import FLOAT32_MAX, check_width
from harness.data.layout import CHECK_HINT, MAX_COLUMNS, MISSING
from harness.data.options import DatasetOptions
from harness.data.rows import IS, PlacedRows, table_rows

MAX_VALUES = 50  # of a column of categories, each of which becomes a column
ITEM_ID = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")
IDS = "1 to 200 characters without a slash or a control character; it names the item's picture"


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """The rows of a table, sorted by id: `values` is float64 [n, columns], NaN for what is missing.

    `labels` and `groups` have the cell of each row; `groups` is None without a group column.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    groups: tuple[str, ...] | None


def read_table(path: Path, options: DatasetOptions) -> ItemTable:
    """Read and check a table.

    Raises DataError with the line, the column and the value for whatever is wrong with it: a missing or doubled
    column, an id that is not one or comes twice, text among numbers, a missing value, a column of categories.
    """
    header, rows = table_rows(path)
    if not header:
        raise DataError(f"{path} is empty", expected="a header and one row for each item", hint=CHECK_HINT)
    separator = next((mark for mark in ";\t|" if mark in header[0]), None)
    if separator is not None and len(header) == 1:
        raise DataError(
            f"{path}: the cells are separated by {separator!r}",
            expected="a CSV file with commas between the cells, and points in its numbers",
            hint="save it as such, or as features.parquet",
        )
    for where, cells in rows:
        check_width(where, cells, header)
    named = [options.id_column, options.label_column, *([options.group] if options.group else [])]
    _check_header(path, header, named)
    place = {name: header.index(name) for name in header}
    ids = _ids(rows, place[options.id_column], options.id_column)
    texts = {name: _texts(rows, place[name], name) for name in named[1:]}
    columns: dict[str, np.ndarray] = {}
    for name in header:
        if name not in named:
            columns |= _column(path, name, [(where, cells[place[name]].strip()) for where, cells in rows], options)
    if not columns:
        raise DataError(f"{path} has no column of numbers", expected=f"columns beside {', '.join(named)}")
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"{path} gives {len(columns)} columns", expected=f"up to {MAX_COLUMNS}", hint=CHECK_HINT)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    groups = None if options.group is None else tuple(texts[options.group][row] for row in order)
    return ItemTable(
        ids=tuple(ids[row] for row in order),
        labels=tuple(texts[options.label_column][row] for row in order),
        columns=tuple(columns),
        values=np.stack(list(columns.values()), axis=1)[order],
        groups=groups,
    )


def _check_header(path: Path, header: Sequence[str], named: Sequence[str]) -> None:
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)
    missing = [name for name in named if name not in header]
    for what, names in (("has twice", repeated), ("lacks", missing)):
        if names:
            shown = ", ".join(map(repr, names[:6])) + (" and others" if names[6:] else "")
            raise DataError(
                f"{path}: the header {what} column {shown}; it has {listed(header)}",
                expected="an id column, a label column, and columns of numbers",
                hint="--id-column NAME and --label-column NAME, or id = and label = in dataset.toml",
            )
    if len(set(named)) < len(named):
        raise DataError(f"{path}: {', '.join(named)}", expected="different columns for id, label and group")
    odd = [name for name in header if not name or IS in name]
    if odd:
        raise DataError(
            f"{path}: a column has the name {odd[0]!r}", expected=f"names without {IS!r}, and not empty"
        )


def _ids(rows: PlacedRows, place: int, name: str) -> list[str]:
    found: dict[str, str] = {}
    for where, cells in rows:
        text = cells[place].strip()
        if not ITEM_ID.fullmatch(text) or text in (".", ".."):
            raise DataError(f"{where}, column {name}: {text!r:.80}", expected=IDS, hint=CHECK_HINT)
        if text in found:
            raise DataError(
                f"{where}, column {name}: {text!r} is also in {found[text]}",
                expected="one row for each id",
                hint=CHECK_HINT,
            )
        found[text] = where
    if not found:
        raise DataError("the table has a header and no rows", expected="one row for each item", hint=CHECK_HINT)
    return list(found)


def _texts(rows: PlacedRows, place: int, name: str) -> list[str]:
    found = []
    for where, cells in rows:
        text = cells[place].strip()
        if text in MISSING or not ITEM_ID.fullmatch(text):
            raise DataError(f"{where}, column {name}: {text!r:.80}", expected=IDS, hint=CHECK_HINT)
        found.append(text)
    return found


def _column(
    path: Path, name: str, cells: Sequence[tuple[str, str]], options: DatasetOptions
) -> dict[str, np.ndarray]:
    """Return the values of a column of numbers, or for categories those of a column for each of them."""
    values = np.array([_number(text) for _, text in cells])
    bad, missing = np.flatnonzero(np.isinf(values)), np.flatnonzero(np.isnan(values))
    if len(bad) > (len(cells) - len(missing)) / 2:
        if options.categorical != "refuse":
            _check_missing(name, cells, missing, options)
        return _categories(path, name, [text for _, text in cells], options)
    if len(bad):
        where, text = cells[bad[0]]
        raise DataError(f"{where}, column {name}: {text!r:.80}", expected="a finite number", hint=CHECK_HINT)
    _check_missing(name, cells, missing, options)
    return {name: values}


def _check_missing(
    name: str, cells: Sequence[tuple[str, str]], missing: np.ndarray, options: DatasetOptions
) -> None:
    """Raise DataError if values are missing at these places and the options refuse that."""
    if len(missing) and options.impute == "refuse":
        where, text = cells[missing[0]]
        raise DataError(
            f"{where}, column {name}: {text!r}, a missing value ({len(missing)} in this column)",
            expected="a value in each cell",
            hint='--impute median, or impute = "median" in dataset.toml: the train part\'s median takes its place '
            "(of categories none is 1 then)",
        )


def _number(text: str) -> float:
    """Return the number, NaN for a missing value, and infinity for what is no finite number."""
    if text in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return value if abs(value) <= FLOAT32_MAX and "_" not in text else math.inf


def _is_any_number(text: str) -> bool:
    """Return whether a cell has a number, of any size."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def is_number(text: str) -> bool:
    """Return whether a cell has a finite number, or no value."""
    return not math.isinf(_number(text.strip()))


def _categories(path: Path, name: str, cells: Sequence[str], options: DatasetOptions) -> dict[str, np.ndarray]:
    found = sorted(set(cells).difference(MISSING))
    shown = ", ".join(map(repr, found[:4])) + (" and others" if found[4:] else "")
    if found and all(_is_any_number(cell) for cell in found):
        large = next(cell for cell in found if not is_number(cell))
        raise DataError(
            f"{path}: column {name!r} has the number {large!r:.80}",
            expected=f"numbers up to {FLOAT32_MAX:.2g}",
            hint="remove the column, or divide it by a constant",
        )
    if options.categorical == "refuse":
        raise DataError(
            f"{path}: column {name!r} has text, not numbers: {shown:.200}",
            expected="columns of numbers",
            hint='remove the column, or --categorical one-hot (categorical = "one-hot" in dataset.toml): '
            "a column of 0 and 1 for each value",
        )
    if len(found) > MAX_VALUES:
        raise DataError(
            f"{path}: column {name!r} has {len(found)} different values: {shown:.200}",
            expected=f"up to {MAX_VALUES}, each of which becomes a column",
            hint="remove the column",
        )
    return {f"{name}{IS}{value}": np.array([float(cell == value) for cell in cells]) for value in found}
