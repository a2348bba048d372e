"""The notebook runs from its text form, and its executed copy is that text."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import EXPERIMENTS

TEXT, EXECUTED = EXPERIMENTS / "tour.py", EXPERIMENTS / "tour.ipynb"


def test_the_executed_copy_has_the_cells_of_the_text() -> None:
    text, executed = jupytext.read(TEXT), nbformat.read(EXECUTED, as_version=4)
    assert [(cell.cell_type, cell.source) for cell in executed.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ]
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    assert not [cell for cell in executed.cells if "/home/" in str(cell) or "/tmp/" in str(cell)]


@pytest.mark.long
def test_the_text_runs(tmp_path: Path) -> None:
    notebook = jupytext.read(TEXT)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    printed = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
    )
    assert "beats" in printed or "no difference" in printed
    assert (tmp_path / "mlruns" / "optuna.db").exists()
