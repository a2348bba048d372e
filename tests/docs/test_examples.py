"""The commands and programs that README and docs show for one's own data are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

import harness
from tests.support import REPOSITORY

# As small as they can be: what is tested is that each line works.
SMALL = {
    "HARNESS_TRIALS": "2",
    "HARNESS_EPOCHS": "3",
    "HARNESS_REPEATS": "5",
    "HARNESS_JOBS": "2",
    "MPLBACKEND": "agg",
}
pytestmark = pytest.mark.long


def block(page: str, heading: str, language: str) -> str:
    """The first block of code of a language under a heading of a page."""
    text = (REPOSITORY / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"{page} has no {language} under {heading}"
    return found[1]


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **SMALL, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shell(script: str, folder: Path) -> str:
    return run(["bash", "-euc", script.replace(".venv/bin/python", sys.executable)], folder)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A data set with the name of README's: 400 digits, as columns and as pictures."""
    digits = load_digits(as_frame=True)
    data = harness.Dataset(
        features=digits.data[:400],
        pictures=(digits.images[:400] * 15).astype("uint8"),
        labels=[f"bird {label}" for label in digits.target[:400]],
    )
    return data.save(tmp_path / "birds")


@pytest.mark.usefixtures("birds")
def test_readme_on_your_own_data(tmp_path: Path) -> None:
    printed = shell(block("README.md", "On your own data", "sh"), tmp_path)
    assert "features.csv" in printed
    assert "400 with 64 feature columns" in printed
    assert re.search(r"fcnn beats cnn|cnn beats fcnn|no difference", printed, re.IGNORECASE)


def test_readme_from_python(tmp_path: Path, birds: Path) -> None:
    shell("harness sweep --model cnn --data birds", tmp_path)
    code = block("README.md", "From Python", "python").replace("trials=40", "trials=2, epochs=3")
    before = f"import pandas as pd\nframe = pd.read_csv({str(birds / 'features.csv')!r})\n"
    printed = run(
        [sys.executable, "-c", before + code.replace("study.predict(frame)", "print(study.predict(frame))")],
        tmp_path,
    )
    assert "prediction" in printed
    assert re.search(r"beats|no difference", printed, re.IGNORECASE)


def test_the_sets_of_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    printed = shell(block("docs/data.md", "Examples", "sh"), tmp_path)
    assert "178 with 13 feature columns" in printed
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == [
        "breast-cancer",
        "digit-pictures",
        "digits",
        "wine",
    ]
    assert len((tmp_path / "sets" / "wine" / "features.csv").read_text().splitlines()) == 179
    again = shell(".venv/bin/python experiments/package_sets.py --out sets", tmp_path)
    assert again.count("is there already") == 4
