"""Output to stdout that several commands share: JSON, and tables that fit."""

from __future__ import annotations

import json

from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table

from harness.cli.terminal import Console
from harness.core.json_types import finite

ANY_WIDTH = 1_000_000
FOLDED = 40  # columns of a terminal in which a table with folded names can be read


def print_json(content: object) -> None:
    """Print one JSON document. A number that is not finite is null, a time is text."""
    print(json.dumps(finite(content), allow_nan=False, default=str))


def print_table(table: Table, *, folds: bool = False) -> None:
    """Print a table; where its names do not fit on the terminal, one line for each cell instead.

    Into a pipe or a file it is as wide as its names need, because one that is cut would not be found. `folds`: the
    table has a column whose long names are folded.
    """
    console = Console()
    if _fits(table, console.width):
        console.print(table)
        return
    if not console.is_terminal:
        names = table.columns[0]
        names.no_wrap = True
        names.min_width = max((cell_len(str(name)) for name in names.cells), default=0)
    width = Measurement.get(console, console.options.update_width(ANY_WIDTH), table)
    if not console.is_terminal:
        console = Console(width=max(console.width, width.minimum))
    elif console.width < (min(width.minimum, FOLDED) if folds else width.minimum):
        _print_cells(console, table)
        return
    console.print(table)


def _fits(table: Table, width: int) -> bool:
    """Return whether every cell fits on one line; if so, fix the widths of the columns.

    rich measures each cell of a column without a width, several times: a second for 500 lines.
    """
    widest = [
        max(cell_len(line) for cell in (column.header, *column.cells) for line in str(cell).split("\n"))
        for column in table.columns
    ]
    fits = sum(widest) + 3 * len(widest) + 1 <= width  # a space on both sides of each cell, and the lines
    if fits:
        for column, needed in zip(table.columns, widest, strict=True):
            column.width = needed
    return fits


def _print_cells(console: Console, table: Table) -> None:
    lines = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for column, cell in zip(table.columns, row, strict=True):
            lines.append(f"{column.header}: {cell}")
        lines.append("")
    console.print("\n".join(lines), soft_wrap=True)
