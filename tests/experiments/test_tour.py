"""The notebook runs from its text form, and its executed copy has the same cells.

`python -m tests.experiments.test_tour` writes the executed copy anew.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import EXPERIMENTS

TEXT = EXPERIMENTS / "tour.py"
COPY = EXPERIMENTS / "tour.ipynb"


def executed(folder: Path) -> Any:
    """Return the notebook of the text form, executed in the folder."""
    notebook = jupytext.read(TEXT)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": folder}},
    ).execute()
    return notebook


def printed(notebook: Any) -> str:
    """Return what the cells printed."""
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
    )


def pictures(notebook: Any) -> int:
    """Return how many pictures the cells show."""
    return sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())
    )


def test_the_executed_copy_has_the_cells_of_the_text() -> None:
    text: Any = jupytext.read(TEXT)
    copy: Any = nbformat.read(COPY, as_version=4)  # type: ignore[no-untyped-call]
    assert [(cell.cell_type, cell.source) for cell in copy.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ], "run python -m tests.experiments.test_tour"
    assert all(cell.execution_count for cell in copy.cells if cell.cell_type == "code")
    assert pictures(copy) == 2
    assert "beats" in printed(copy) or "no difference" in printed(copy)


@pytest.mark.long
def test_the_text_runs(tmp_path: Path) -> None:
    notebook = executed(tmp_path)
    assert "beats" in printed(notebook) or "no difference" in printed(notebook)
    assert pictures(notebook) == 2
    assert (tmp_path / "mlruns" / "optuna.db").exists()


def write() -> None:
    """Write the executed copy, without what names this machine or this day."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(notebook, COPY)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    write()
