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


def _print_cells(console: Console, table: Table) -> None:
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for column, cell in zip(table.columns, row, strict=True):
            console.print(f"{column.header}: {cell}", soft_wrap=True)
        console.print()
