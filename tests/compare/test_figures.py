"""The files of a comparison, with names that matplotlib and spreadsheets would read otherwise."""

import csv
import json
from pathlib import Path

import pytest

from harness.compare.figures import pictures_of
from harness.compare.page import write_files
from harness.compare.result import Comparison
from tests.support.comparisons import made_up


@pytest.fixture
def comparison() -> Comparison:
    """Two candidates with odd names on two genres with odd names."""
    return made_up("$x_$", "y")


def test_every_picture_of_a_comparison_takes_every_name(comparison: Comparison) -> None:
    for picture in pictures_of(comparison):
        figure = picture.draw()
        figure.canvas.draw()
    assert len(pictures_of(comparison)) == 6


def test_the_tables_hold_no_formula(comparison: Comparison, tmp_path: Path) -> None:
    write_files(comparison, tmp_path)
    for name in ("predictions.csv", "own_split.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            cells = {cell for row in csv.reader(file) for cell in row}
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert {"'=1+1|cmd", "'=1+1|cmd.00000", "$a^$"} <= cells

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"), parse_constant=refuse)
