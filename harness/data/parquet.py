"""The rows of a Parquet file, as those of a CSV file: texts, whose types are checked by whoever reads them."""

from __future__ import annotations

import math
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import regular
from harness.data.layout import CHECK_HINT, MAX_COLUMNS

PARQUET = ".parquet"
MAX_CELLS = 20_000_000


def parquet_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns of a Parquet file, and the cells of its rows as text.

    Raises DataError if it cannot be read, or has too many columns or cells.
    """
    import pyarrow  # comes with MLflow
    from pyarrow import parquet

    try:
        with regular(path).open("rb") as opened:
            file = parquet.ParquetFile(opened)
            if file.schema_arrow.names and len(file.schema_arrow.names) > MAX_COLUMNS:
                raise DataError(
                    f"{path}: {len(file.schema_arrow.names)} columns",
                    expected=f"up to {MAX_COLUMNS}",
                    hint=CHECK_HINT,
                )
            cells = file.metadata.num_rows * file.metadata.num_columns
            if cells > MAX_CELLS:  # a few bytes of the file can stand for any number of equal rows
                raise DataError(f"{path}: {cells} cells", expected=f"up to {MAX_CELLS}", hint=CHECK_HINT)
            table = file.read()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {error}", expected="a Parquet file", hint=CHECK_HINT
        ) from error
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    return list(table.column_names), [list(cells) for cells in zip(*columns, strict=True)]


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def parquet_header(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file; [] for any other file."""
    import pyarrow
    from pyarrow import parquet

    try:
        with regular(path).open("rb") as opened:
            return list(parquet.ParquetFile(opened).schema_arrow.names)
    except (OSError, pyarrow.ArrowException):
        return []
