"""The rows of any table that a user names: CSV or Parquet, with the columns that a network takes."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.core.files import regular
from harness.data.features import check_width, csv_rows, lines_of, numbers_of
from harness.data.layout import MISSING
from harness.data.parquet import PARQUET, parquet_header, parquet_rows

IS = "="  # between a column of categories and the value, in the name of the column of that value
PlacedRows = list[tuple[str, list[str]]]  # where each row is, for messages, and its cells


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a user's file, in its order: `values` is float64 [n, columns], `names` the cells that name them.

    `unknown` has for each row the cells of columns of categories that are none of them, as `COLUMN=VALUE`.
    """

    names: tuple[str | None, ...]
    values: np.ndarray
    unknown: tuple[tuple[str, ...], ...] = ()

    @property
    def tracks(self) -> tuple[str | None, ...]:
        """The names without `.wav`: the ids of tracks where they are those of a data set."""
        return tuple(None if name is None else name.removesuffix(".wav") for name in self.names)


def read_rows(
    path: Path, columns: Sequence[str], *, names_in: Sequence[str] = ("filename",), impute: bool = False
) -> Rows:
    """Read the named columns of a CSV or Parquet file. The first of `names_in` that it has gives the rows' names.

    Other columns are ignored. A column `NAME=VALUE` that it lacks is 1 where column NAME has VALUE, else 0.
    `impute`: a missing value is NaN.

    Raises DataError as `read_features` does.
    """
    header, rows = table_rows(path)
    expected = f"a header with the columns {', '.join(columns)}, and rows"
    counts = Counter(header)
    missing = list(
        dict.fromkeys(raw_name(name) for name in columns if counts[name] != 1 and counts[raw_name(name)] != 1)
    )
    if missing:
        shown = ", ".join(map(repr, missing[:6])) + (" and others" if missing[6:] else "")
        raise DataError(f"{_header_of(path)}: the header lacks, or has twice, {shown}", expected=expected)
    if not rows:
        raise DataError(f"{path} has a header and no rows", expected=expected)
    place = {name: header.index(name if name in counts else raw_name(name)) for name in columns}
    found = categories_of([name for name in columns if name not in counts])
    categories = {name: (header.index(name), values_there) for name, values_there in found.items()}
    named = next((header.index(name) for name in names_in if name in header), None)
    names, values, unknown = [], [], []
    for where, cells in rows:
        check_width(where, cells, header)
        unknown.append(
            tuple(
                f"{name}{IS}{text}"
                for name, (index, known) in categories.items()
                if (text := cells[index].strip()) not in known and not (impute and text in MISSING)
            )
        )
        names.append(None if named is None else cells[named])
        texts = [_cell(name, cells[index], name in counts) for name, index in place.items()]
        gaps = [index for index, text in enumerate(texts) if impute and text.strip() in MISSING]
        numbers = numbers_of(where, columns, ["0" if index in gaps else text for index, text in enumerate(texts)])
        for index in gaps:
            numbers[index] = math.nan
        values.append(numbers)
    return Rows(tuple(names), np.array(values, dtype=np.float64), tuple(unknown))


def table_rows(path: Path) -> tuple[list[str], PlacedRows]:
    """Return the header of a CSV or Parquet file, [] for an empty file, and its rows, whatever their width.

    Raises DataError as `csv_rows` and `parquet_rows` do.
    """
    if path.suffix.lower() == PARQUET:
        header, cells_of_rows = parquet_rows(path)
        return header, [(f"{path}, row {number}", cells) for number, cells in enumerate(cells_of_rows, 1)]
    rows = csv_rows(path)
    header = [name.strip() for name in rows[0][1]] if rows else []
    return header, [(f"{path}, line {line}", cells) for line, cells in rows[1:]]


def _header_of(path: Path) -> str:
    return str(path) if path.suffix.lower() == PARQUET else f"{path}, line 1"


def _cell(column: str, text: str, is_there: bool) -> str:
    return text if is_there else str(int(text.strip() == column.partition(IS)[2]))


def raw_name(column: str) -> str:
    """Return the column of a table that a column is made of: NAME for `NAME=VALUE`, 1 where NAME has VALUE."""
    return column.partition(IS)[0]


def categories_of(columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the values that the columns `NAME=VALUE` stand for, by NAME; other columns are left out."""
    found: dict[str, list[str]] = {}
    for column in columns:
        name, is_one, value = column.partition(IS)
        if is_one:
            found.setdefault(name, []).append(value)
    return found


def has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Return True if the file is a table whose header has at least one of the columns (see `read_rows`)."""
    if path.suffix.lower() == PARQUET:
        header = parquet_header(path)
    else:
        try:
            with regular(path).open(encoding="utf-8-sig", newline="") as file:
                header = next(csv.reader(lines_of(path, file), strict=True), [])
        except (DataError, OSError, UnicodeDecodeError, csv.Error):
            return False
    return not {name.strip() for name in header}.isdisjoint({*columns, *map(raw_name, columns)})
