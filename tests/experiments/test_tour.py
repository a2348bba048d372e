"""The notebook runs from its text form."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from tests.support import EXPERIMENTS

TEXT = EXPERIMENTS / "tour.py"


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
