"""The nested evaluation runs, goes on where it was stopped, and gives the figures of its answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import EXPERIMENTS


def run(place: Path, *words: str) -> str:
    command = [sys.executable, str(EXPERIMENTS / "nested.py"), "--data", "demo", "--out", "nested", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_each_outer_split_has_a_search_of_its_own(place: Path) -> None:
    words = ("--outer", "5", "--trials", "2", "--folds", "2", "--epochs", "2")
    printed = run(place, *words)
    assert "SYNTHETIC" in printed
    assert "tuned - untuned" in printed
    paths = sorted((place / "nested").glob("outer-*/answers.json"))
    answers = [json.loads(path.read_text()) for path in paths]
    assert len(answers) == 5
    tested = [track for each in answers for track in each["test"]]
    assert len(tested) == len(set(tested)) == 300  # a round tests on each track once
    result = json.loads((place / "nested" / "result.json").read_text())
    for way, values in result["accuracies"].items():
        assert values == [float(np.mean(each["right"][way])) for each in answers]
    assert all({"lr", "weight_decay", "dropout", "width"} <= set(each["params"]) for each in answers)
    paths[0].unlink()  # as if it had been stopped before the end of this one
    again = run(place, *words)
    assert again.split("outer runs")[1] == printed.split("outer runs")[1]
