"""CSV files for people, who open them in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a text that begins so is a formula to a spreadsheet, which runs it


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, the header first.

    A text that a spreadsheet would run as a formula gets an apostrophe before it. Numbers stay as they are.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([_cell(value) for value in row] for row in rows)


def read_cell(cell: str) -> str:
    """Return the text of a cell that `write_table` has written, without the apostrophe that it may have added."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
