"""Tables that a spreadsheet does not run."""

import csv
from pathlib import Path

from harness.core.tables import read_cell, write_table


def test_a_text_that_would_be_a_formula_gets_an_apostrophe(tmp_path: Path) -> None:
    texts = ["=1+1|cmd", "+1", "-intro", "@sum", "\tx", "rock = roll", "'=1", ""]
    write_table(tmp_path / "a.csv", [["track", "gain", *texts], ["=a.00001", -0.5, *texts]])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, row = list(csv.reader(file))
    escaped = ["'=1+1|cmd", "'+1", "'-intro", "'@sum", "'\tx", "rock = roll", "'=1", ""]
    assert header == ["track", "gain", *escaped]
    assert row == ["'=a.00001", "-0.5", *escaped]
    assert [read_cell(cell) for cell in row] == ["=a.00001", "-0.5", *texts[:-2], "=1", ""]
