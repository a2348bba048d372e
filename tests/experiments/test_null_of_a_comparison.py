"""The script runs on what a comparison has written; its figures are those of the rules."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import EXPERIMENTS

SCRIPT = EXPERIMENTS / "null_of_a_comparison.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=EXPERIMENTS.parent
    )


@pytest.mark.long
def test_a_table_with_a_row_for_each_pair(tmp_path: Path) -> None:
    """Two models that disagree at random, in two rounds of five folds; a third one equals the first."""
    chance = np.random.default_rng(0)
    path = tmp_path / "predictions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["repeat", "name", "study", "track", "genre", "predicted", "correct"])
        for repeat in range(10):
            for track in range(repeat % 5, 100, 5):
                one, two = (int(chance.random() < 0.7) for _ in range(2))
                for name, correct in (("one", one), ("two", two), ("same", one), ("majority", 0)):
                    writer.writerow([repeat, name, "", f"g.{track:05d}", "g", "g", correct])
    done = run(str(path), "--tries", "40")
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "one" in line
    ]
    assert [row[:2] for row in rows] == [["one", "two"], ["one", "same"]]
    (apart, rule, resampled, _, *power), equal = ([float(cell) for cell in row[2:]] for row in rows)
    assert 30 < apart < 55
    assert rule <= 20  # of 40 tries; what it is in full says tests/compare/test_error_rate.py
    assert resampled <= rule
    assert power == sorted(power)
    assert equal[:4] == [0, 0, 0, 0]
    wrong = run(str(path), "--models", "nothing")
    assert wrong.returncode == 2
    assert "has no nothing; it has one, two" in wrong.stderr
