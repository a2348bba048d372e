"""Bad inputs of every kind, each given to the real command line; `tests/bad_inputs/` has them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

# How many inputs of each kind are tried at least, so that none is lost unseen.
AT_LEAST = {
    "zip archives": 45,
    "CSV files": 90,
    "PNG files": 40,
    "sound files": 40,
    "split lists": 30,
    "settings": 55,
    "bundles": 60,
    "bit flips in pt2 and ONNX": 80,
    "Optuna stores": 20,
    "MLflow stores": 25,
    "HTTP requests to the UI": 12,
    "passwords in URLs": 16,
    "names of working folders": 16,
    "code that must not run": 10,
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the material, which the first kind makes."""
    return tmp_path_factory.mktemp("material")


@pytest.mark.slow
@pytest.mark.parametrize("kind", AT_LEAST)
def test_every_bad_input_ends_in_a_right_result_or_one_clear_error(
    kind: str, material: Path, tmp_path: Path
) -> None:
    outcomes = tmp_path / "outcomes.json"
    options = ["--only", kind, "--base", str(material), "--json", str(outcomes)]
    process = subprocess.run(
        [sys.executable, "-m", "tests.bad_inputs", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    tried = json.loads(outcomes.read_text())
    assert len(tried) >= AT_LEAST[kind]
    assert len({(case["kind"], case["name"]) for case in tried}) == len(tried)
