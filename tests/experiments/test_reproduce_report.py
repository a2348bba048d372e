"""The script behind the README's table, run small on the synthetic set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.data import Tracks, stratified_split
from tests.support import EXPERIMENTS, REPOSITORY
from tests.support.sweeps import write_lists

SCRIPT = EXPERIMENTS / "reproduce_report.py"


@pytest.mark.slow
def test_the_whole_script(demo_data: Path, demo_tracks: Tracks, tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", stratified_split(demo_tracks, seed=3))
    sizes = {"seeds": 2, "epochs": 2, "trials": 2, "repeats": 5}
    command = [sys.executable, str(SCRIPT), "--data", str(demo_data), "--lists", str(lists)]
    command += ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "found"), "--pictures", "synthetic"]
    for name, size in sizes.items():
        command += [f"--{name}", str(size)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1200)
    assert process.returncode == 0, process.stderr
    assert "| FCNN on features | 0.325 / 0.28 |" in process.stdout
    assert process.stdout.count("Tuned, FCNN against CNN:") == 2
    assert "Pictures: synthetic." in process.stdout
    recipes = [json.loads(line) for line in (tmp_path / "found" / "recipes.jsonl").read_text().splitlines()]
    assert len(recipes) == 6 * 2 * 2
    assert (tmp_path / "out" / "finding.png").read_bytes().startswith(b"\x89PNG")
    traits_of_the_studies(demo_data, tmp_path, environment)
    # Started again, even without its stores, it trains nothing and says the same.
    shutil.rmtree(tmp_path / "out")
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=600)
    assert again.stdout == process.stdout


def traits_of_the_studies(demo_data: Path, place: Path, environment: dict[str, str]) -> None:
    """Run the script of the traits on what that of the finding has left."""
    command = [sys.executable, str(EXPERIMENTS / "traits_of_gtzan.py"), "--data", str(demo_data)]
    command += ["--out", str(place / "out"), "--results", str(place / "found"), "--split", "random"]
    command += ["--what", "fcnn", "both", "--trials", "2", "--repeats", "5"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "| noise (control) | 20 |" in done.stdout
    assert "### Pictures and features together, random splits" in done.stdout
    kept = json.loads((place / "found" / "traits-fcnn-random.json").read_text())
    (learner,) = kept["learners"]
    shares = sum(row["share"]["value"] for row in learner["rows"])
    assert shares == pytest.approx(learner["accuracy"]["value"] - learner["nothing"])
    # What is kept is not measured again.
    assert (
        subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout == done.stdout
    )
