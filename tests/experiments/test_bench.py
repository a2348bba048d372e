"""The benchmark runs; what it measures at this size means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import EXPERIMENTS

BENCH = EXPERIMENTS / "bench.py"


# One row of each kind: a slope between sweeps, a whole command, loops in processes of their own, single parts.
A_FEW = (
    "fcnn_trial_pruner",
    "whole_command",
    "cnn_gemm_share",
    "bookkeeping",
    "help",
    "finished_study",
    "status_of_many",
)


@pytest.mark.process
def test_rows_run_at_a_tiny_size(demo_data: Path, tmp_path: Path) -> None:
    check(demo_data, tmp_path, A_FEW)


@pytest.mark.slow
def test_every_row_runs_at_a_tiny_size(demo_data: Path, tmp_path: Path) -> None:
    check(demo_data, tmp_path, ())


def check(demo_data: Path, tmp_path: Path, only: tuple[str, ...]) -> None:
    command = [sys.executable, str(BENCH), "--tiny", "--data", str(demo_data), "--json", str(tmp_path / "b.json")]
    command += ["--only", *only] if only else []
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, cwd=tmp_path, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())
    assert set(rows) == set(only) if only else len(rows) == 22  # those of a GPU are not among them
    for name, row in rows.items():
        assert set(row) == {"value", "target", "better", "unit", "runs"}, name
        assert row["better"] in ("lower", "higher")
        assert isinstance(row["value"], float)  # at this size a slope may well be negative
        assert name in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json"]
